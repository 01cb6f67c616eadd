"""Mined datasets on the Hugging Face Hub."""

from hf_hardneg.hub.push import push_mined_dataset

__all__ = ["push_mined_dataset"]
