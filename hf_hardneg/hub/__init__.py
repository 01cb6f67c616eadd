"""Mined datasets on the Hugging Face Hub."""

from hf_hardneg.hub.push import push_mined_dataset
from hf_hardneg.hub.reproduce import Reproduction, reproduce

__all__ = ["Reproduction", "push_mined_dataset", "reproduce"]
