import pytest
import yaml

from hf_hardneg.errors import DataError
from hf_hardneg.hub import mined_dataset_card
from hf_hardneg.hub.front_matter import merged_metadata, parts
from hf_hardneg.text.recipe_text import SECTION
from tests.hub.mined import RECIPE, mined

WRITTEN = """---
# chosen by the team
license: mit  # of the source
"quoted key": 'it''s: kept'
tags:
- ours

# what datasets wrote
configs:
- config_name: triplet   # by hand
  data_files:
  - split: train
    path: triplet/train-*
dataset_info: {config_name: triplet, features: [{name: query, dtype: string}]}
size_categories: [10K<n<100K]
pretty_name: >-
  A set
  of ours
# the end
---
# A set of ours

Written *by hand*,   with trailing spaces\x20\x20
<!-- a comment -->
| a | table |
"""


def card(previous, **options):
    return str(mined_dataset_card(mined(), repo_id="ada/set", recipe=RECIPE, previous=previous, **options))


def outside(text):
    return text.partition(SECTION[0])[0], text.partition(SECTION[1])[2]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n"])
def test_what_is_there_stays_byte_for_byte(start, end):
    before = (start + WRITTEN).replace("\n", end)
    made = card(before)
    changed = [
        ("tags:\n- ours\n", "tags:\n- ours\n- hard-negatives\n- sentence-transformers\n- hf_hardneg\n"),
        ("size_categories: [10K<n<100K]\n", "size_categories:\n- n<1K\n"),
        ("# the end\n", "# the end\n" + ADDED),
    ]
    expected = WRITTEN
    for old, new in changed:
        assert old in expected
        expected = expected.replace(old, new, 1)
    assert outside(made) == (f"{start}{expected}\n".replace("\n", end), end)
    assert "\n" not in made.replace("\r\n", "") if end == "\r\n" else "\r" not in made
    assert card(made) == made


ADDED = """source_datasets:
- ada/corpus
task_categories:
- text-retrieval
- sentence-similarity
- feature-extraction
annotations_creators:
- machine-generated
"""


def test_our_section_is_replaced_and_nothing_around_it():
    first = card(WRITTEN)
    edited = first.replace("Written *by hand*", "Rewritten") + "\nAfter our section.\n"
    again = str(mined_dataset_card(mined().select([0]), repo_id="ada/set", recipe=RECIPE, previous=edited))
    assert outside(again) == outside(edited)
    assert "\n1 rows with 2 hard negatives" in again and "4 rows with" not in again
    assert card(again) == edited


def test_what_is_given_wins_and_what_is_derived_does_not():
    made = parts(card("---\nlicense: mit\nsource_datasets: [own]\ntags: one\n---\n", license="apache-2.0"))
    data = yaml.safe_load(made.yaml)
    assert (data["license"], data["source_datasets"]) == ("apache-2.0", ["own"])
    assert data["tags"] == ["one", "hard-negatives", "sentence-transformers", "hf_hardneg"]


NEW = ["", None, "---\n{}\n---\n", "---\n\n---\n", "---\n# nothing\n---\n"]


@pytest.mark.parametrize("previous", NEW)
def test_a_card_without_text_gets_a_heading(previous):
    made = parts(card(previous, pretty_name="A [set]"))
    assert made.body.startswith(f"\n# A &#91;set&#93;\n\n{SECTION[0]}\n") and made.body.endswith(f"\n{SECTION[1]}\n")
    assert yaml.safe_load(made.yaml)["pretty_name"] == "A [set]"


def test_a_card_without_yaml_gets_some():
    made = card("# Title\n\nText without end")
    assert made.startswith("---\nsize_categories:\n") and "\n---\n# Title\n\nText without end\n\n<!-- hf" in made


STRANGE = {
    "a merge": "more:\n  <<: {x: 1}\n  y: 2\ntags: [a]",
    "a hash within quotes": "tags:\n- 'a # b'\nlast: 1",
    "an empty value": "tags:\n# none\nlast: 1",
    "said twice": "tags: [a]\ntags: [b]",
    "one line": "{license: mit, tags: [a]}",
    "a block scalar": "tags:\n- a\nnote: |\n  # no comment\n  ---- x\n\nlast: 1",
    "comments within": "tags:\n# first\n- a\n# second\n- b # third\n# fourth\nlast: 1",
    "numbers and dates": "1st: 0x1F\nday: 2024-01-01\nnone: ~\ntags: [1, true]",
    "other scripts": "名前: 日本語\ntags:\n- العربية",
    "a nested name": "nested:\n  tags: [x]\n  license: y\nlicense: mit",
    "quoted hash": "tags: ['a # b', \"c # d\"]\nlast: 1",
}


@pytest.mark.parametrize("strange", STRANGE)
def test_yaml_of_any_style_keeps_its_values(strange):
    text = STRANGE[strange]
    old = yaml.safe_load(text)
    made = merged_metadata(parts(f"---\n{text}\n---\n"), {"tags": ["new"], "license": "x"}, frozenset())
    tags = old.get("tags") or []
    expected = {**old, "tags": [*tags, "new"], "license": old.get("license", "x")}
    assert yaml.safe_load(made.yaml) == expected


def test_a_hash_within_quotes_is_no_comment():
    made = merged_metadata(parts(f"---\n{STRANGE['a hash within quotes']}\n---\n"), {"tags": ["new"]}, frozenset())
    assert made.yaml == "tags:\n- 'a # b'\n- new\nlast: 1"


def test_a_comment_after_the_last_of_a_list_stays():
    made = merged_metadata(parts(f"---\n{STRANGE['comments within']}\n---\n"), {"tags": ["new"]}, frozenset())
    assert made.yaml.endswith("- new # third\n# fourth\nlast: 1")


BROKEN = {
    "---\nlicense: [mit\n---\n": "YAML of the card that is there cannot be read: .*Repair it first; nothing was",
    "---\n- a list\n---\n": "it holds a list, not names with values",
    "---\n1: x\n---\n": "one of its names is no text",
    "---\nday: 2024-99-99\n---\n": "month must be in",
    "---\ntags: &t [a]\nother: *t\n---\n": "holds the anchor or alias 't'; write the value out in each place",
    "---\nother: *t\n---\n": "holds the anchor or alias 't'",
    "---\nold: !!set {a, b}\n---\n": "value of the type 'tag:yaml.org,2002:set'",
    "---\nold: !mine x\n---\n": "value of the type '!mine'",
    "---\nignore_metadata_errors: true\n---\n": "none that huggingface_hub reads",
    "---\nlicense: mit\n\n# Title\n": "begins with --- and no line after it is --- again",
    f"# x\n{SECTION[0]}\n": "has 1 lines <!-- hf_hardneg:start --> and 0 lines",
    f"{SECTION[1]}\n{SECTION[0]}\n": "has 1 lines .* and 1 lines .*in this order",
    f"{SECTION[0]}\n{SECTION[1]}\n" * 2: "has 2 lines .* and 2 lines .*nothing was overwritten",
}


@pytest.mark.parametrize("previous", BROKEN)
def test_what_cannot_be_read_is_not_overwritten(previous):
    with pytest.raises(DataError, match=BROKEN[previous]):
        card(previous)
