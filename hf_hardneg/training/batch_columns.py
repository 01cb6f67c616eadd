"""`BatchColumns`: which columns of mined rows a loader reads."""

from __future__ import annotations

from hf_hardneg.corpus.columns import Columns
from hf_hardneg.runtime.arguments import Name


class BatchColumns(Columns, total=False):
    """Names of columns in the rows of a batch, by role.

    Args:
        negatives (`str`, defaults to `"negatives"`): one text or several, as positives are.
        known_positives (`str`): texts that are positives of the row's query too.
        weight (`str`): a number of at least 0, the weight of the row in the loss; the batch then has `weights` (B,).
        false_negative (`str`): of each negative the probability that it is false, such as a judge gives or a denoiser
            whose scores are probabilities; the batch then has `negative_weights` (B, m), 1 minus that.
    """

    negatives: Name
    known_positives: Name
    weight: Name
    false_negative: Name
