"""`SyntheticNegatives`: negatives written by a language model, each validated, before the mined ones of a row."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.grouping import isin_sorted
from hf_hardneg.corpus.batches import Batch
from hf_hardneg.corpus.columns import Columns, missing_column
from hf_hardneg.corpus.documents import content_digest
from hf_hardneg.corpus.loaded_from import in_words
from hf_hardneg.corpus.pictures import refuse_names
from hf_hardneg.corpus.queries import PairColumns, flat_strings, strings
from hf_hardneg.draws import keyed_uniforms
from hf_hardneg.generate.answering import answers_to
from hf_hardneg.generate.generators import FAILURES, Ask, load_generator
from hf_hardneg.generate.prompts import Prompt
from hf_hardneg.generate.validation import REASONS, Draft, Validation, echoes_of
from hf_hardneg.identity import identify
from hf_hardneg.runtime.arguments import Folder, Range, ShareAboveZero, check_fields
from hf_hardneg.runtime.process import end_with_pool
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.disk import save_array
from hf_hardneg.store.replies import Replies
from hf_hardneg.store.stored_arrays import Schema, Stored
from hf_hardneg.text.keys import KEY, text_keys

if TYPE_CHECKING:
    from datasets import Dataset

SOURCE = "synthetic"
COUNTS = ("asked", "drafts", "accepted", *REASONS, *FAILURES)
KEYS = "keys"
KNOWN = Schema.of({KEYS: Stored(KEY, "positives")})


@dataclass(kw_only=True)
class _Row:
    """A row while it gets its negatives.

    Args:
        query, identity (`str`), positives (`tuple[str, ...]`): as the batch holds them.
        shown (`str`): the positive that the model sees.
        chosen (`bool`): whether the row gets synthetic negatives.
        easiest (`float`, *optional*): lowest score of its negatives.
        forbidden, taken (`set[bytes]`): text keys of the query and positives, and of the negatives so far.
        accepted (`list[str]`): synthetic negatives so far.
        counts (`Counter[str]`): see `COUNTS`.
    """

    query: str
    identity: str
    positives: tuple[str, ...]
    shown: str
    chosen: bool
    easiest: float | None
    forbidden: set[bytes]
    taken: set[bytes]
    accepted: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def draft(self, reply: str, echoes: frozenset[tuple[str, ...]]) -> Draft:
        """Put a reply beside what it must not be."""
        row = {name: getattr(self, name) for name in ("query", "shown", "positives", "easiest")}
        return Draft(reply=reply, echoes=echoes, **row)

    def why_known(self, key: bytes, positive_somewhere: bool) -> str | None:
        """Say whether a text with this key is a known positive or a negative already; `None` where it is neither."""
        if positive_somewhere or key in self.forbidden:
            return "known_positive"
        return "duplicate" if key in self.taken else None

    def accept(self, text: str) -> None:
        """Take a text as a negative."""
        self.accepted.append(text)
        self.taken.update(text_keys([text], "normalized").tolist())


@dataclass(frozen=True)
class SyntheticNegatives:
    """Adds negatives written by a language model to mined rows, or to plain pairs: pass it to `Dataset.map`.

    For a share of the rows it asks for a passage that looks relevant and is not, validates what comes, asks again where
    that fails, and puts what passes *before* the row's negatives, with `"synthetic"` in `negative_sources`, an id that
    no corpus has, no score and rank -1. The column `synthesis` counts per row what was asked, drafted, accepted and
    rejected under each reason; `report()` adds that up.

    **Experimental.** Mixing one synthetic with several retrieved negatives follows SyNeg (arXiv 2412.17250). Against
    it: arXiv 2504.21015 reports LLM-written negatives below BM25 and cross-encoder mining on ten BEIR sets, and no
    steady gain with larger models; arXiv 2606.01304, students that learn to spot generated text. A passage that passes
    all checks can still answer the query: give a `judge`, and compare with and without.

    Args:
        generator (`EndpointGenerator`, `LocalGenerator`, or `Callable[[list[str]], list[str]]`): the model.
        rate (`float`, defaults to 0.7): share of rows that get one, drawn by keys.
        n_synthetic (`int`, defaults to 1): at most so many for each of those.
        max_retries (`int`, defaults to 2): further drafts after a rejected one.
        prompt (`Prompt`): what is asked.
        validation (`Validation`): what is accepted.
        known_positives (`Sequence[Dataset]`): datasets whose positives, of whatever query, are rejected: pass the one
            you map. Without them only the row's own positives are known.
        columns (`Columns`, *optional*): as in `HardNegatives`, the roles `query`, `query_id` and `positive`.
        seed (`int`, defaults to 42): draws are keyed by it, the query and its positives.
        cache_dir (`str`, *optional*): where replies are stored, by prompt, model, decoding and draw.

    Raises:
        ConfigError: arguments that cannot work, before anything is asked.

    Example:
        >>> import json
        >>> reply = {
        ...     "why_it_looks_relevant": "It is about a blue sky.",
        ...     "why_it_does_not_answer": "It names no cause.",
        ...     "negative_passage": "Few painters of that time dared to make the sky over a town as blue as this.",
        ... }
        >>> def writer(prompts):  # or EndpointGenerator(model="my-model", base_url="http://127.0.0.1:8000/v1")
        ...     return [json.dumps(reply) for prompt in prompts]
        >>> mined = mined.map(SyntheticNegatives(writer, rate=1, known_positives=[mined]), batched=True)
        >>> mined[0]["negative_sources"]
        ['synthetic', 'bm25', 'bm25']
    """

    generator: Any
    _: KW_ONLY
    rate: ShareAboveZero = 0.7
    n_synthetic: Annotated[int, Range(least=1, most=1000)] = 1
    max_retries: Annotated[int, Range(least=0, most=1000)] = 2
    prompt: Prompt = field(default_factory=Prompt)
    validation: Validation = field(default_factory=Validation)
    known_positives: InitVar[Sequence[Dataset]] = ()
    columns: Columns | None = None
    seed: int = 42
    cache_dir: Folder | None = None
    known: Path | None = field(init=False, repr=False)

    def __post_init__(self, known_positives: Sequence[Dataset]) -> None:
        check_fields(self, known_positives=known_positives)
        object.__setattr__(self, "generator", load_generator(self.generator))
        object.__setattr__(self, "known", self._published(known_positives) if known_positives else None)

    def __call__(self, batch: Any) -> Any:
        """Return the batch in the form it came, with synthetic negatives first and the column `synthesis`.

        Raises:
            ColumnError, DataError: the rows cannot be read.
            EndpointError: the endpoint does not answer; the replies it gave are stored.
        """
        end_with_pool()
        mined = Batch.of(batch, self._names.query)
        rows = self._read(mined.columns)
        for slot in range(self.n_synthetic):
            self._fill([row for row in rows if row.chosen], slot)
        return mined.with_columns(_columns(rows, mined.columns))

    def _fill(self, wanting: list[_Row], slot: int) -> None:
        """Ask for one more negative for each row, again where a draft is rejected."""
        for row in wanting:
            row.counts["asked"] += 1
        for attempt in range(self.max_retries + 1):
            draw = slot * (self.max_retries + 1) + attempt
            prompts = [
                self.prompt.render(row.query, row.shown, seed=self.seed, identity=row.identity, draw=draw)
                for row in wanting
            ]
            asks = [Ask(prompt, draw) for prompt in prompts]
            answers = answers_to(asks, self.generator, self._replies)
            answered = [(row, answers[ask.key]) for row, ask in zip(wanting, asks, strict=True)]
            for row, answer in answered:
                if answer.failure:
                    row.counts[answer.failure] += 1
            wanting = self._judge([(row, answer.text) for row, answer in answered if not answer.failure])

    def _judge(self, replied: list[tuple[_Row, str]]) -> list[_Row]:
        """Accept the drafts that pass validation; return the rows whose draft did not."""

        def known_texts(texts: list[str]) -> list[str | None]:
            keys = text_keys(texts, "normalized")
            anywhere = isin_sorted(keys, self._known_keys)[1]
            return [row.why_known(key, known) for (row, _), key, known in zip(replied, keys, anywhere, strict=True)]

        verdicts = self.validation.verdicts([row.draft(reply, self._echoes) for row, reply in replied], known_texts)
        rejected = []
        for (row, _), verdict in zip(replied, verdicts, strict=True):
            row.counts["drafts"] += 1
            row.counts[verdict.reason or "accepted"] += 1
            if verdict.reason is None:
                row.accept(verdict.text)
            else:
                rejected.append(row)
        return rejected

    def _read(self, columns: Mapping[str, pa.ChunkedArray]) -> list[_Row]:
        names = self._names
        for role, name in (("query", names.query), ("positive", names.positive)):
            if name not in columns:
                raise missing_column(name, list(columns), "dataset", role)
        queries = strings(columns[names.query], names.query)
        id_column = names.query_id if names.query_id in columns else names.query
        identities = strings(columns[id_column], id_column)
        positives: list[list[str]] = [[] for _ in queries]
        for owner, text in zip(*flat_strings(columns[names.positive], names.positive), strict=True):
            positives[owner].append(text)
        refuse_names("SyntheticNegatives", [*queries, *(text for row in positives for text in row)])
        negatives, scores = (
            columns[name].to_pylist() if name in columns else [[] for _ in queries]
            for name in ("negatives", "negative_scores")
        )
        return [self._row(*part) for part in zip(queries, identities, positives, negatives, scores, strict=True)]

    def _row(
        self, query: str, identity: str, positives: list[str], negatives: list[str], scores: list[float | None]
    ) -> _Row:
        drawn = keyed_uniforms(self.seed, f"{SOURCE}#rate", identity, ["\x1f".join(positives)])[0]
        shown = keyed_uniforms(self.seed, f"{SOURCE}#shown", identity, positives)
        return _Row(
            query=query,
            identity=identity,
            positives=tuple(positives),
            shown=positives[int(shown.argmin())] if positives else "",
            chosen=bool(drawn < self.rate and positives),
            easiest=min((score for score in scores if score is not None), default=None),
            forbidden=set(text_keys([query, *positives], "normalized").tolist()),
            taken=set(text_keys(negatives, "normalized").tolist()),
        )

    def _published(self, datasets: Sequence[Dataset]) -> Path:
        """Return the folder with the sorted text keys of all positives of some datasets."""
        name = self._names.positive
        for dataset in datasets:
            if name not in dataset.column_names:
                raise missing_column(name, dataset.column_names, "dataset", "positive")
        plain = [dataset.with_format("arrow", columns=[name]) for dataset in datasets]

        def build(directory: Path) -> None:
            keys = [
                text_keys(flat_strings(table.column(name), name)[1], "normalized")
                for dataset in plain
                for table in dataset.iter(batch_size=1000)
            ]
            save_array(directory / f"{KEYS}.npy", np.unique(np.concatenate([text_keys([], "normalized"), *keys])))

        digests = [content_digest(dataset, [name]) for dataset in plain]
        root, about = directories.cache_root(self.cache_dir), {"pairs": in_words(datasets, "rows")}
        return directories.obtain(root, kinds.POSITIVE_TEXTS, {"datasets": digests}, build, about)

    @property
    def _names(self) -> PairColumns:
        return PairColumns.of(self.columns)

    @functools.cached_property
    def _known_keys(self) -> np.ndarray:
        return text_keys([], "normalized") if self.known is None else KNOWN.opened(self.known)[KEYS]

    @functools.cached_property
    def _replies(self) -> Replies | None:
        identity = self.generator.identity
        return None if identity is None else Replies.of(directories.cache_root(self.cache_dir), identity)

    @functools.cached_property
    def _echoes(self) -> frozenset[tuple[str, ...]]:
        return echoes_of(self.prompt.fixed_parts())

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields and the identity of the code, so that `Dataset.map` stores the rows of each code apart."""
        code = identify((self.generator, self.prompt, self.validation), what="generator")
        return {**{setting.name: getattr(self, setting.name) for setting in fields(self)}, "code": code}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({name: value for name, value in state.items() if name != "code"})


def _columns(rows: Sequence[_Row], mined: Mapping[str, pa.ChunkedArray]) -> dict[str, pa.Array]:
    """Return the columns of negatives, synthetic ones first, and the counts."""
    of_text: dict[str, tuple[pa.DataType, Callable[[str], object]]] = {
        "negatives": (pa.string(), str),
        "negative_ids": (pa.string(), lambda text: f"{SOURCE}:{directories.bytes_digest(text.encode())}"),
        "negative_scores": (pa.float32(), lambda text: None),
        "negative_ranks": (pa.int32(), lambda text: -1),
        "negative_sources": (pa.string(), lambda text: SOURCE),
    }
    added = {}
    for name, (kind, value) in of_text.items():
        rest = mined[name].to_pylist() if name in mined else [[] for _ in rows]
        lists = [[*map(value, row.accepted), *old] for row, old in zip(rows, rest, strict=True)]
        added[name] = pa.array(lists, pa.list_(kind))
    counts = [pa.array([row.counts[name] for row in rows], pa.int32()) for name in COUNTS]
    return {**added, "synthesis": pa.StructArray.from_arrays(counts, names=list(COUNTS))}
