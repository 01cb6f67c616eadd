"""Texts and files of others, of up to 10 MB: refused by name or read, within 2 s of one core and 200 MB.

What is drawn has odd forms and sizes and harms no software. It is read in a child of its own, whose processor time and
growth of memory are looked at; a tenth of these trials runs on machines that are busy with other things, so that only
a multiple of the time is a failure, and the campaign's table shows what was taken at most.
"""

from __future__ import annotations

import contextlib
import functools
import json
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg import Recipe, recipe_of
from hf_hardneg.errors import HardNegError
from hf_hardneg.generate import EndpointGenerator
from hf_hardneg.generate.generators import Ask
from hf_hardneg.generate.validation import Draft, Validation
from hf_hardneg.hub import mined_dataset_card
from hf_hardneg.models.cross_encoder import load_cross_encoder
from hf_hardneg.models.encoder import load_encoder
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.inventory import inventory, prune
from hf_hardneg.store.verification import verify_cache
from hf_hardneg.text.recipe_text import RECIPE as MARK
from hf_hardneg.text.recipe_text import SECTION, described
from tests.cross_encoders import cross_encoder
from tests.endpoints import passage, serving
from tests.faults.campaign import Row
from tests.faults.disks import said_in_child
from tests.faults.manifests import changed
from tests.hub.hostile import TEXTS
from tests.hub.mined import RECIPE, mined
from tests.models.test_odd_models import LARGE, SAID
from tests.runtime.test_growth import READERS

MOST, LEAST = 10 << 20, 1 << 10
"""Bytes of what is read."""
SECONDS, MEMORY = 2.0, 200 << 20
PATIENCE = 10
"""How many times as long is a failure."""
HERE = "[CONTENT]"
UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the system counts memory."""
PARAMETERS = {"k1": 1.5}

UNITS = (
    *TEXTS,
    *(unit for _, unit in READERS.values()),
    *(content.decode(errors="replace")[:50] for content in LARGE.values()),
    *("a# : b\n", "a#: [1, 2, {b: c}]\n", "- b#\n", "&a# [b, c]\n", "*a#\n", "a: |\n  b#\n", "\n\n", "\r\n", "--- \n"),
    *('"a#": "b", ', '{"a#": []}, ', "#, ", "#.5e#, ", '"\\ud83d#", ', "\U0001f469"),
    *("```json\n{}\n```\n", f"{MARK}\n\n", f"{SECTION[1]}\n"),
)
"""What texts are made of; # stands for a number."""
CARDS = (
    *(HERE, f"---\n{HERE}\n---\n# Rows\n", f"---\nlicense: {HERE}\n---\n", f'---\nlicense: "{HERE}"\n---\n'),
    *(f"---\ntags: [{HERE}]\n---\n", f"---\nconfigs:\n{HERE}\n---\n", f"---\na: b\n{HERE}", f"---\na: b\n---\n{HERE}"),
    *(f"{SECTION[0]}\n{HERE}\n{SECTION[1]}\n", f"{HERE}\n{SECTION[0]}\n{MARK}\n```json\n{{}}\n```\n{SECTION[1]}\n"),
    *(f"{SECTION[0]}\n{MARK}\n```json\n{form}\n```\n{SECTION[1]}\n" for form in (HERE, f'{{"configs": ["{HERE}"]}}')),
)
DESCRIPTIONS = (
    HERE,
    f"hf_hardneg recipe: {HERE}",
    f"hf_hardneg recipe: {{{HERE}}}",
    f'Rows.\nhf_hardneg recipe: {{"strategy": [{HERE}]}}\n',
)
REPLIES = (
    HERE,
    f"```json\n{HERE}\n```",
    f"<think>{HERE}</think>{{}}",
    f"{{{HERE}}}",
    f'{{"negative_passage": "{HERE}"}}',
    passage(HERE),
)
BODIES = (
    HERE,
    f'{{"error": "{HERE}"}}',
    f'{{"choices": [{{"message": {{"content": "{HERE}"}}}}]}}',
    f'{{"choices": [{HERE}]}}',
)
FILES = (*SAID, "tokenizer.json", "vocab.txt", "special_tokens_map.json", "notes.json", "1_Pooling/config.json")


@dataclass
class Taken:
    """What reading took at most, of all trials of a kind: seconds and bytes, and how often it was too much."""

    seconds: float = 0.0
    memory: int = 0
    slow: int = 0

    def add(self, seconds: float, memory: int) -> None:
        """One more trial."""
        self.seconds, self.memory = max(self.seconds, seconds), max(self.memory, memory)
        self.slow += seconds > SECONDS

    def __str__(self) -> str:
        return (
            f"at most {self.seconds:.2f} s and {self.memory / 1e6:.0f} MB; {self.slow} took more than {SECONDS:.0f} s"
        )


def drawn(random: np.random.Generator, forms: tuple[str, ...] = (HERE,)) -> str:
    """A text in one of some forms, of any size: one unit again and again, or a mixture."""
    size = MOST if random.random() < 0.2 else int(np.exp(random.uniform(np.log(LEAST), np.log(MOST))))
    places = random.integers(len(UNITS), size=1 if random.random() < 0.7 else int(random.integers(2, 9)))
    form, joined = forms[random.integers(len(forms))], "".join(UNITS[place] for place in places)
    times = max(1, (size - len(form)) // len(joined.encode(errors="surrogatepass")))
    text = "".join(joined.replace("#", str(number)) for number in range(times)) if "#" in joined else joined * times
    return form.replace(HERE, text.encode(errors="surrogatepass")[: size - len(form)].decode(errors="ignore"))


def within_limits(taken: Taken, read: Callable[[Any], object], odd: object, plain: object) -> str | None:
    """What was wrong with reading something odd in a child that has read something plain before."""

    def run() -> str:
        read(plain)
        before = resource.getrusage(resource.RUSAGE_SELF)
        read(odd)
        after = resource.getrusage(resource.RUSAGE_SELF)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return json.dumps({"seconds": seconds, "memory": (after.ru_maxrss - before.ru_maxrss) * UNIT})

    said = said_in_child(run)
    if not said.startswith("{"):
        return said
    took = json.loads(said)
    taken.add(**took)
    is_slow = took["seconds"] > PATIENCE * SECONDS
    return (
        f"reading took {took['seconds']:.1f} s, {took['memory']:,} bytes"
        if is_slow or took["memory"] > MEMORY
        else None
    )


def _read_card(text: str) -> None:
    with contextlib.suppress(HardNegError):
        Recipe.from_card(text)
    with contextlib.suppress(HardNegError):
        card = mined_dataset_card(mined(), repo_id="ada/set", recipe=RECIPE, previous=text)
        mined_dataset_card(mined(), repo_id="ada/set", recipe=RECIPE, previous=str(card))


def _cards(taken: Taken, random: np.random.Generator, folder: Path) -> str | None:
    return within_limits(taken, _read_card, drawn(random, CARDS), "# Rows")


def _read_description(text: str) -> None:
    rows = mined()
    rows.info.description = text
    with contextlib.suppress(HardNegError):
        recipe_of(rows)
    with contextlib.suppress(HardNegError):
        mined_dataset_card(rows, repo_id="ada/set")
    described(text, RECIPE.to_json())


def _descriptions(taken: Taken, random: np.random.Generator, folder: Path) -> str | None:
    return within_limits(taken, _read_description, drawn(random, DESCRIPTIONS), "Rows.")


def _read_recipe(text: str) -> None:
    with contextlib.suppress(HardNegError):
        recipe = Recipe.from_json(text)
        with contextlib.suppress(HardNegError):
            recipe.rebuilt()
        recipe.code()
        mined_dataset_card(mined(), repo_id="ada/set", recipe=recipe)


def _recipes(taken: Taken, random: np.random.Generator, folder: Path) -> str | None:
    said, text = changed(json.loads(RECIPE.to_json()), random), drawn(random)
    texts = (
        text,
        json.dumps(with_leaf(said, text, random)),
        json.dumps(with_leaf(said, HERE, random)).replace(f'"{HERE}"', f"[{text}]"),
    )
    return within_limits(taken, _read_recipe, texts[random.integers(len(texts))], RECIPE.to_json())


def with_leaf(value: object, leaf: object, random: np.random.Generator) -> object:
    """A JSON value, one of whose leaves is another."""
    if isinstance(value, dict) and value:
        name = sorted(value)[random.integers(len(value))]
        return {**value, name: with_leaf(value[name], leaf, random)}
    if isinstance(value, list) and value:
        place = int(random.integers(len(value)))
        return [*value[:place], with_leaf(value[place], leaf, random), *value[place + 1 :]]
    return leaf


def _build(directory: Path) -> None:
    (directory / "text").write_text("what was written")


def _read_cache(cache: Path) -> None:
    with contextlib.suppress(HardNegError):
        directories.obtain(cache, kinds.KEYS, PARAMETERS, _build)
    _ = [*map(str, inventory(cache)), *map(str, verify_cache(cache))]
    prune(cache, everything=True, dry_run=True)


def _manifests(taken: Taken, random: np.random.Generator, folder: Path) -> str | None:
    path = directories.obtain(folder / "odd", kinds.KEYS, PARAMETERS, _build) / directories.MANIFEST
    said, text = path.read_text(), drawn(random)
    forms = (text, json.dumps(with_leaf(json.loads(said), text, random)), said.replace('"k1"', f'"a": [{text}], "k1"'))
    path.write_bytes(forms[random.integers(len(forms))].encode(errors="surrogatepass"))
    return within_limits(taken, _read_cache, folder / "odd", folder / "plain")


def _read_reply(text: str) -> None:
    said = "A positive of several words that a negative is compared with."
    draft = Draft(reply=text, query="which words", shown=said, positives=(said,), echoes=frozenset())
    Validation().verdicts([draft], lambda texts: [None] * len(texts))


def _replies(taken: Taken, random: np.random.Generator, folder: Path) -> str | None:
    return within_limits(taken, _read_reply, drawn(random, REPLIES), passage("A negative."))


def _ask(url: str) -> None:
    asked = EndpointGenerator(model="tiny", base_url=url, timeout=PATIENCE * SECONDS, retries=0)
    with contextlib.suppress(HardNegError):
        list(asked.generate([Ask("a prompt", 0)]))


def _answers(taken: Taken, random: np.random.Generator, folder: Path) -> str | None:
    status, body = int(random.choice((200, 200, 400, 404, 500))), drawn(random, BODIES).encode(errors="surrogatepass")
    with serving(lambda prompt, number: (status, {}, body) if number else passage("A negative.")) as endpoint:
        return within_limits(taken, _ask, endpoint.url, endpoint.url)


@functools.cache
def _model() -> tempfile.TemporaryDirectory[str]:
    """A folder with the files of a small model, written by a child, since torch would keep threads here."""
    folder = tempfile.TemporaryDirectory()
    assert not said_in_child(lambda: (cross_encoder(Path(folder.name) / "model"), "")[-1])
    return folder


def _read_model(folder: Path) -> None:
    for load in (load_encoder, load_cross_encoder):
        with contextlib.suppress(HardNegError):
            load(str(folder), cache_dir=folder.parent)


def _folders(taken: Taken, random: np.random.Generator, folder: Path) -> str | None:
    plain, odd = Path(_model().name) / "model", folder / "model"
    shutil.copytree(plain, odd)
    path, text = odd / str(random.choice(FILES)), drawn(random)
    path.parent.mkdir(exist_ok=True)
    said = (
        json.loads(path.read_bytes()) if path.exists() and path.suffix == ".json" else {"architectures": ["a"], "b": 1}
    )
    texts = (
        text,
        json.dumps(with_leaf(said, text, random)),
        json.dumps(with_leaf(said, HERE, random)).replace(f'"{HERE}"', f"[{text}]"),
    )
    path.write_bytes(texts[random.integers(len(texts))].encode(errors="surrogatepass")[:MOST])
    return within_limits(taken, _read_model, odd, plain)


def _load(folder: Path) -> None:
    with contextlib.suppress(HardNegError):
        load_cross_encoder(str(folder), cache_dir=folder.parent).score(["a query"], ["a document"])


def _sizes(taken: Taken, random: np.random.Generator, folder: Path) -> str | None:
    """The configuration of a model asks for more than its weights are."""
    plain, odd = Path(_model().name) / "model", folder / "model"
    shutil.copytree(plain, odd)
    said = json.loads((odd / "config.json").read_text())
    names = [name for name, value in said.items() if type(value) is int]
    for name in random.choice(names, int(random.integers(1, 3)), replace=False):
        said[name] = int(10 ** random.uniform(0, 12))
    (odd / "config.json").write_text(json.dumps(said))
    return within_limits(taken, _load, odd, plain)


def _row(name: str, trials: int, trial: Callable[[Taken, np.random.Generator, Path], str | None]) -> Row:
    taken = Taken()
    return Row(name, trials, functools.partial(trial, taken), figures=taken.__str__)


ROWS = [
    _row("hostile cards", 100, _cards),
    _row("hostile descriptions", 100, _descriptions),
    _row("hostile recipes", 100, _recipes),
    _row("hostile manifests", 100, _manifests),
    _row("hostile replies", 100, _replies),
    _row("hostile answers of endpoints", 50, _answers),
    _row("hostile model folders", 100, _folders),
    _row("model folders that ask for any size", 50, _sizes),
]
