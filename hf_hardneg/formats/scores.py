"""Choose whose scores a layout gets: a trainer learns what it reads, so they are a teacher's, or asked for by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hf_hardneg.errors import ConfigError
from hf_hardneg.formats.layouts import LAYOUTS

RETRIEVER = "retriever"
"""The name by which the scores of the retriever are asked for."""
_OF_NEGATIVES = re.compile("negative_(.+)_scores")


def columns_of_scores(name: str) -> tuple[str, str]:
    """Name the columns that hold the scores of positives and of negatives by a name."""
    middle = "" if name == RETRIEVER else f"{name}_"
    return f"positive_{middle}scores", f"negative_{middle}scores"


def teachers(present: Sequence[str]) -> list[str]:
    """Name the scoring filters whose scores of both positives and negatives are among some columns."""
    names = [match[1] for match in map(_OF_NEGATIVES.fullmatch, present) if match]
    return [name for name in names if set(columns_of_scores(name)) <= set(present)]


def chosen_scores(scores: bool | str | None, layout: str, present: Sequence[str]) -> str | None:
    """Choose the scores that a layout gets, by name; `None` for none.

    Args:
        scores (`bool` or `str`, *optional*): as `to_format()` takes it.
        layout (`str`): a name in `LAYOUTS`.
        present (`Sequence[str]`): columns of the mined data.

    Raises:
        ConfigError: the layout has no place for scores; or a teacher's are needed, and the data has no teacher, or
            several.
    """
    kind = LAYOUTS[layout].scores
    if scores and kind == "never":
        raise ConfigError(
            f"scores={scores!r}, and the layout {layout!r} has no place for them. Leave out scores=, or choose another."
        )
    if isinstance(scores, str) and scores:
        return scores
    if scores is not None and not scores and kind == "always":
        raise ConfigError(
            f"scores={scores!r}, and {layout!r} is a layout for distillation, with a score for each document. Leave "
            "out scores= for a cross-encoder's, or choose 'triplet' or 'n-tuple', which need none."
        )
    known = teachers(present)
    if not (scores or (scores is None and (kind == "always" or (kind == "taught" and known)))):
        return None
    if len(known) != 1:
        raise _no_single_teacher(layout, known)
    return known[0]


def _no_single_teacher(layout: str, known: Sequence[str]) -> ConfigError:
    if known:
        return ConfigError(
            f"Scores for {layout!r} are asked for, and the dataset has those of {' and '.join(map(repr, known))}. Name "
            f"the teacher, such as scores={known[0]!r}."
        )
    return ConfigError(
        f"Scores for {layout!r} are a teacher's, for a model to learn, and the dataset has none but the retriever's, "
        "which is what hard negatives deceive. Mine with cross_encoder=, or ask for the retriever's by name: "
        f"scores={RETRIEVER!r}."
    )
