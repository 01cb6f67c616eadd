"""Identifies functions and other objects of the user's: by code, state, and all that the two refer to."""

from hf_hardneg.identity.identities import UNIDENTIFIED, identify, is_of_user, one_run

__all__ = ["UNIDENTIFIED", "identify", "is_of_user", "one_run"]
