import ast
import functools
import re
import unicodedata
from dataclasses import replace

import pytest
from datasets import Dataset, DatasetDict
from markdown_it import MarkdownIt

from hf_hardneg import Recipe, mine, recipe_of
from hf_hardneg.hub import mined_dataset_card
from hf_hardneg.hub.front_matter import metadata_of, parts
from hf_hardneg.hub.inert import JOINERS, visible
from hf_hardneg.recipes.provenance import Model, Source
from hf_hardneg.text.masking import masked
from hf_hardneg.text.recipe_text import SECTION
from tests.hub.hostile import PATHS, SECRETS, TEXTS
from tests.hub.mined import RECIPE, ROWS
from tests.worlds import world

pytestmark = pytest.mark.slow

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
INSIDE = {"text", "code_inline", "softbreak", "image", "text_special"}


def test_there_are_200_of_them():
    assert len(TEXTS) == len(set(TEXTS)) >= 200


def card(text, previous=None):
    """A card with the text in every place a user can put one; Arrow ends names of columns at a NUL."""
    named, length = text.replace("\0", ""), len(ROWS["query"])
    names = {"query": f"{named} query", "positive": f"{named} positive"}
    rows = {names.get(name, name): values for name, values in ROWS.items()}
    rows |= {names["query"]: [f"{text}{place}" for place in range(length)], names["positive"]: [[text]] * length}
    rows |= {"negatives": [[text] * len(one) for one in ROWS["negatives"]], f"{named} column": [text] * length}
    rows |= {"negative_ids": rows["negatives"], "negative_sources": rows["negatives"]}
    rows["mining"] = [{**one, f"{named} filter": 0} for one in ROWS["mining"]]
    data = Dataset.from_dict(rows)
    return mined_dataset_card(
        data,
        repo_id=f"ada/{text}",
        configs={
            text: DatasetDict({text: data}),
            "triplet": Dataset.from_dict({f"{named}x": [text], "p": ["x"], "negative": ["y"]}),
        },
        recipe=recipe(text, names),
        previous=previous,
        license=text,
        language=[text],
        source_datasets=[text],
        pretty_name=text,
    )


def recipe(text, names):
    source = Source(rows=4, digest=text, columns=(text,), hub_id=text, revision=text, config=text, split=text)
    model = Model(name=text, digest=text, kind="hub", revision=text, settings={text: text})
    custom = {"class": "custom", "name": text}
    return replace(
        RECIPE,
        versions={text: text},
        strategy={**RECIPE.strategy, "retrievers": [{"class": "BM25", "depth": 5, "config": custom}]},
        options={
            "num_negatives": 2,
            "seed": 7,
            "columns": {"query": names["query"], "positive": names["positive"], "text": [text]},
        },
        corpus=source,
        pairs={text: replace(source, hub_id=None), "": replace(source, hub_id=None, files=(text,))},
        encoder=model,
        cross_encoder=replace(model, kind="folder"),
        indexes=({"identity": text, "recall": text, "factory": text, "depth": text, "queries": text},),
    )


def shape(text):
    """The blocks of a Markdown text: what they are, and of raw HTML and headings all they hold but the title."""
    tokens = MARKDOWN.parse(parts(text).body)
    inline = [child for token in tokens for child in token.children or ()]
    assert {child.type for child in inline} <= INSIDE
    assert {child.attrs["src"] for child in inline if child.type == "image"} == {
        "assets/hf_hardneg-scores.svg",
        "assets/hf_hardneg-margins.svg",
    }
    html = [token.content for token in tokens if token.type == "html_block"]
    return [(token.type, token.tag, token.info) for token in tokens], html


@functools.cache
def plain():
    """What a card is with a text of which nobody needs to be afraid."""
    rendered = str(card("plain"))
    return shape(rendered), list(metadata_of(parts(rendered)))


@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_a_text_stays_a_text(number):
    text = TEXTS[number]
    made = card(text)
    rendered = str(made)
    assert shape(rendered) == plain()[0]
    assert not [
        one for one in rendered if one not in f"\n{JOINERS}" and unicodedata.category(one) in ("Cc", "Cf", "Cs")
    ]
    data = metadata_of(parts(rendered))
    if masked(text).strip():
        assert data["pretty_name"] == data["license"] == masked(text)
        assert data["language"] == data["source_datasets"] == [masked(text)]
    assert list(data) == plain()[1]
    assert not [secret for secret in SECRETS if secret in text and secret in rendered]
    assert number % 5 or str(card(text, previous=rendered)) == rendered
    assert all(len(re.findall(f"^{marker}$", rendered, re.MULTILINE)) == 1 for marker in SECTION)
    for code in re.findall(r"^`{3,}python\n(.*?)^`{3,}$", rendered, re.MULTILINE | re.DOTALL):
        imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import | ast.ImportFrom)]
        assert {getattr(node, "module", "os") for node in imports} <= LIBRARIES


LIBRARIES = {"datasets", "hf_hardneg", "huggingface_hub", "sentence_transformers", "sentence_transformers.losses"}


@pytest.mark.parametrize("number", range(0, len(TEXTS), 4))
def test_a_recipe_comes_back_as_it_was(number):
    made = recipe(TEXTS[number], {"query": "q", "positive": "p"})
    assert Recipe.from_json(made.to_json()) == made
    assert visible(TEXTS[number]) == visible(visible(TEXTS[number]))


@pytest.mark.parametrize("text", [*SECRETS, *PATHS])
def test_what_is_mined_carries_neither_secrets_nor_paths(text):
    pairs, corpus = world(1)
    column = f"{text} column"
    made = mine(
        pairs.rename_column("query", column),
        corpus.rename_column("text", text),
        columns={"query": column, "text": text},
    )
    shown = str(mined_dataset_card(made, repo_id="ada/set"))
    assert text not in recipe_of(made).to_json() + recipe_of(made).code()
    assert "adalove" not in recipe_of(made).to_json() + recipe_of(made).code()
    assert text not in shown or text in PATHS
