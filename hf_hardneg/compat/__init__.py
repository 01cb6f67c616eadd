"""A door for users of sentence-transformers: its `mine_hard_negatives`, with the miner of this library inside.

    from hf_hardneg.compat import mine_hard_negatives

Arguments, defaults and columns are as in sentence-transformers 6.2; what differs, and why, is listed in
`docs/coming_from_sentence_transformers.md`, beside what to write instead when you move on to `hf_hardneg.mine`.
"""

from __future__ import annotations

from hf_hardneg.compat.drop_in import mine_hard_negatives

__all__ = ["mine_hard_negatives"]
