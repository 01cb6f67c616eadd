"""Encoders, cross-encoders and late interaction: loading, identity, forward passes, stored vectors and scores.

`load_cross_encoder` opens what judges pairs.
"""

from hf_hardneg.runtime.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
