"""`ListwiseJudge`: a language model that puts the documents of a query in order, for `relabel`."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from importlib.resources import files
from string import Template
from typing import Annotated, Any

import numpy as np

from hf_hardneg.draws import keyed_uniforms
from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.generate.answering import answers_to
from hf_hardneg.generate.generators import FAILURES, Ask, load_generator
from hf_hardneg.generate.prompts import ORDER, SCHEMAS
from hf_hardneg.generate.validation import content_of, too_long
from hf_hardneg.runtime.arguments import AtLeastOne, Folder, Name, Range, check_fields, checked
from hf_hardneg.store import directories
from hf_hardneg.store.replies import Replies

_MARK = "\x00"


@functools.cache
def order_template() -> str:
    """Read the template of the package."""
    return files("hf_hardneg.generate").joinpath("order_prompt.txt").read_text(encoding="utf-8")


@dataclass(frozen=True)
class ListwiseJudge:
    """A language model that orders the documents of a query by how well they answer it, as RLHN asks one.

    The documents stand in an order drawn by keys, so that where a known positive stands tells nothing. A reply counts
    only where it names each document exactly once; else the model is asked again, under another draw. Replies are
    stored, and the endpoint's budget holds: what it does not reach has no answer, and the next call asks for it.

    Args:
        generator (`EndpointGenerator`, `LocalGenerator`, or `Callable[[list[str]], list[str]]`): the model; give it a
            low temperature, such as 0.1.
        at_once (`int`, defaults to 20): documents in a prompt, known positives among them.
        max_retries (`int`, defaults to 1): further asks after a reply that is no order.
        characters (`int`, defaults to 2000): of each document that are shown.
        template (`str`, *optional*): in the form of `string.Template`, with `$query`, `$documents` and, where wanted,
            `$schema`; texts are inserted as JSON.
        seed (`int`, defaults to 42): of the orders in which documents are shown.
        cache_dir (`str`, *optional*): where replies are stored.

    Attributes:
        counts (`Counter[str]`): lists asked for, ordered, replies that are no order, and failures, so far.

    Raises:
        ConfigError: arguments that cannot work, before anything is asked.

    Example:
        >>> def model(prompts):  # or EndpointGenerator(model="my-model", base_url="http://127.0.0.1:8000/v1")
        ...     return ['{"order": [2, 1]}' for prompt in prompts]
        >>> judge = ListwiseJudge(model, at_once=2)
        >>> [sorted(places) for places in judge.order(["why is the sky blue"], [["It scatters light.", "It is high."]])]
        [[0, 1]]
    """

    generator: Any
    _: KW_ONLY
    at_once: Annotated[int, Range(least=2, most=1000, such_as=20)] = 20
    max_retries: Annotated[int, Range(least=0, most=1000)] = 1
    characters: AtLeastOne = 2000
    template: Name | None = None
    seed: int = 42
    cache_dir: Folder | None = None
    counts: Counter[str] = field(default_factory=Counter, init=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "generator", load_generator(self.generator))
        try:
            filled = self._filled("query" + _MARK, ["document" + _MARK])
        except (KeyError, ValueError) as error:
            raise ConfigError(
                f"The template cannot be filled: {type(error).__name__} {error}. Its placeholders may be $query, "
                "$documents and $schema; write $$ for a dollar sign."
            ) from error
        for name in ("query", "document"):
            if json.dumps(name + _MARK) not in filled:
                raise ConfigError(f"The template has no {name}, so the model would not see it. Add the placeholder.")

    @checked
    def order(self, queries: Sequence[str], documents: Sequence[Sequence[str]]) -> list[list[int] | None]:
        """Return for each query the places of its documents, best first; `None` where there is no valid reply.

        Raises:
            DataError: there is not one list of documents for each query.
            EndpointError: the endpoint does not answer; the replies it gave are stored.
        """
        if len(queries) != len(documents):
            raise DataError(
                f"order() got {len(queries)} queries and {len(documents)} lists of documents; give one list for each."
            )
        shown = [self._shown(query, texts) for query, texts in zip(queries, documents, strict=True)]
        orders: list[list[int] | None] = [None] * len(shown)
        open_places = list(range(len(shown)))
        self.counts["asked"] += len(shown)
        for draw in range(self.max_retries + 1):
            asks = {
                place: Ask(self._filled(queries[place], [documents[place][at] for at in shown[place]]), draw, ORDER)
                for place in open_places
            }
            answers = answers_to(list(asks.values()), self.generator, self._replies)
            for place, ask in asks.items():
                answer = answers[ask.key]
                places = None if answer.failure else order_in(answer.text, len(shown[place]))
                self.counts[answer.failure or ("invalid" if places is None else "ordered")] += 1
                orders[place] = None if places is None else [int(shown[place][at]) for at in places]
            open_places = [place for place in open_places if orders[place] is None]
            open_places = [place for place in open_places if answers[asks[place].key].failure not in FAILURES]
        return orders

    def _shown(self, query: str, documents: Sequence[str]) -> np.ndarray:
        """Draw the order in which documents are shown, (n,) places."""
        return np.argsort(keyed_uniforms(self.seed, "listwise", query, list(documents)), kind="stable")

    def _filled(self, query: str, documents: Sequence[str]) -> str:
        listed = [{"number": number, "text": text[: self.characters]} for number, text in enumerate(documents, 1)]
        return Template(self.template or order_template()).substitute(
            query=json.dumps(query, ensure_ascii=False),
            documents="\n".join(json.dumps(each, ensure_ascii=False) for each in listed),
            schema=json.dumps(SCHEMAS[ORDER]),
        )

    @functools.cached_property
    def _replies(self) -> Replies | None:
        identity = self.generator.identity
        return None if identity is None else Replies.of(directories.cache_root(self.cache_dir), identity)


def order_in(reply: str, size: int) -> list[int] | None:
    """Read the places of `size` documents, best first, from a reply that numbers them from 1; `None` for no order."""
    content = None if too_long(reply) else content_of(reply)
    if not isinstance(content, dict) or set(content) != {ORDER} or not isinstance(content[ORDER], list):
        return None
    numbers = content[ORDER]
    if not all(type(number) is int for number in numbers) or sorted(numbers) != list(range(1, size + 1)):
        return None
    return [number - 1 for number in numbers]
