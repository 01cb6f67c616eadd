"""Say how far to trust mined negatives, in sentences that follow from the figures and the recipe."""

from __future__ import annotations

from collections.abc import Iterator

from hf_hardneg.recipes.recipe import Recipe
from hf_hardneg.recipes.serialization import CUSTOM, names
from hf_hardneg.reports.report import Report
from hf_hardneg.strategies import SAFEGUARDS

PADDED, SYNTHETIC = "pad_", "synthetic"
GUARDS = {guard.__name__ for guard in SAFEGUARDS}


def limits(figures: Report, recipe: Recipe | None) -> list[str]:
    """Write a sentence for each limit, without markup of its own."""
    return [_search(figures, recipe), *_of_rows(figures), *(_of_recipe(figures, recipe) if recipe else ())]


def _search(figures: Report, recipe: Recipe | None) -> str:
    if figures.search_recall is not None:
        return f"Search was approximate, and by its own measurement found {figures.search_recall:.4f} of the nearest."
    if not figures.negative_scores:
        return "No negative has a score, so none is known to be hard."
    if recipe is None or recipe.uses_own_index:
        return "Nothing was recorded of how exact the search was."
    return "Search was exact: no nearer document was overlooked."


def _of_rows(figures: Report) -> Iterator[str]:
    if figures.hardness.compared:
        yield (
            f"{100 * figures.hardness.above:.2f} % of the {figures.hardness.compared:,} negatives that have a score, "
            "as their positive has, score above the best positive of their query. The score of a retriever does not "
            "tell how many of those are unlabelled positives."
        )
    if figures.short_rows:
        yield (
            f"{figures.short_rows:,} of {figures.rows:,} rows have fewer negatives than asked, "
            f"{figures.empty_rows:,} of them none."
        )
    for start, what in ((PADDED, "filled up, not hard by any filter"), (SYNTHETIC, "written by a model")):
        count = sum(count for source, count in figures.sources.items() if source.startswith(start))
        if count:
            yield f"{count:,} negatives were {what}; the column negative_sources says which."
    if taken := figures.funnel.get("judged"):
        yield f"A judge took {taken:,} negatives away after mining, which the recipe alone does not repeat."
    if figures.marked:
        yield (
            f"{figures.marked:,} documents that a judge found relevant stand in the column pseudo_positives; nobody "
            "labelled them."
        )
    if figures.merged:
        yield (
            f"{figures.merged:,} of the positives are documents that a judge found relevant and nobody labelled; the "
            "column promoted says which, and demote() takes them out."
        )
    if figures.repeated_negatives:
        yield f"In {figures.repeated_negatives:,} rows a text stands twice among the negatives."


def _of_recipe(figures: Report, recipe: Recipe) -> Iterator[str]:
    parts = set(names(recipe.strategy))
    guards = sorted(GUARDS & parts)
    if guards:
        yield f"Filters against unlabelled positives were on: {', '.join(guards)}."
    else:
        yield "No filter against unlabelled positives was on, beyond known positives and what the strategy names."
    if recipe.known:
        yield "Known positives of a query were excluded, in whatever row they stand; those nobody labelled can be left."
    else:
        yield "Only the positives of the row itself were excluded; those of the same query in other rows can be left."
    if CUSTOM in parts:
        yield "The strategy holds classes that are not of hf_hardneg, so the recipe alone does not rebuild it."
    mined = sum(split.rows for split in recipe.pairs.values())
    if recipe.pairs and mined != figures.rows:
        yield f"The recipe is for {mined:,} rows and {figures.rows:,} are here: some were dropped or chosen since."
