"""Prompts: an editable template, and the attributes that are drawn for it on each call."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib.resources import files
from string import Template

from hf_hardneg.draws import keyed_uniforms
from hf_hardneg.errors import ConfigError
from hf_hardneg.runtime.arguments import AtLeastZero, Name, check_fields, checked

DOMAINS = (
    "the field this query comes from",
    "journalism about that field",
    "teaching in that field",
    "practice in that field",
)
DIFFICULTIES = ("curious newcomers", "students of the subject", "people who work with it every day")
LENGTHS = (
    "about as long as the passage above",
    "a little shorter than the passage above, about three quarters of it",
    "a little longer than the passage above, about one and a half times of it",
)
PASSAGE = "negative_passage"
KEYS = ("why_it_looks_relevant", "why_it_does_not_answer", PASSAGE)
SCHEMA = {
    "type": "object",
    "properties": {key: {"type": "string"} for key in KEYS},
    "required": list(KEYS),
    "additionalProperties": False,
}
"""The form of a reply: reflection comes first, so that the passage is written after it."""
ORDER = "order"
SCHEMAS = {
    "negative": SCHEMA,
    ORDER: {
        "type": "object",
        "properties": {ORDER: {"type": "array", "items": {"type": "integer"}}},
        "required": [ORDER],
        "additionalProperties": False,
    },
}
"""What a reply may be, by the name of its form."""

_MARK = "\x00"


@functools.cache
def default_template() -> str:
    """Read the template of the package, with the persona, constraints and reflection of arXiv 2412.17250."""
    return files("hf_hardneg.generate").joinpath("prompt.txt").read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """The prompt for the model.

    Args:
        template (`str`, *optional*): in the form of `string.Template`, with `$query` and `$positive`, and, where
            wanted, `$domain`, `$difficulty`, `$length` and `$schema`; `default_template()` by default. Texts of the
            dataset are inserted as JSON strings: they cannot close their quotes, and a `$` in them means nothing.
        domains, difficulties, lengths (`tuple[str, ...]`): one of each is drawn for every draft.

    Raises:
        ConfigError: the template lacks a text, or has a placeholder that nothing fills; or a list is empty.
    """

    template: Name | None = None
    domains: tuple[str, ...] = DOMAINS
    difficulties: tuple[str, ...] = DIFFICULTIES
    lengths: tuple[str, ...] = LENGTHS

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("domains", "difficulties", "lengths"):
            if not (phrases := getattr(self, name)):
                raise ConfigError(f"{name}={phrases!r} leaves nothing to draw; give a tuple of phrases.")
        try:
            filled = self._filled("query" + _MARK, "positive" + _MARK, "", "", "")
        except (KeyError, ValueError) as error:
            raise ConfigError(
                f"The template cannot be filled: {type(error).__name__} {error}. Its placeholders may be $query, "
                "$positive, $domain, $difficulty, $length and $schema; write $$ for a dollar sign."
            ) from error
        for name in ("query", "positive"):
            if json.dumps(name + _MARK) not in filled:
                raise ConfigError(f"The template has no ${name}, so the model would not see it. Add the placeholder.")

    @checked
    def render(self, query: str, positive: str, *, seed: int, identity: str, draw: AtLeastZero) -> str:
        """Write the prompt of a draft; it is the same for the same arguments.

        Args:
            query, positive (`str`): the texts to show.
            seed (`int`), identity (`str`): of keyed draws, and of the query.
            draw (`int`): number of the draft; another one brings other attributes.
        """

        def drawn(name: str, phrases: tuple[str, ...]) -> str:
            uniform = keyed_uniforms(seed, f"synthetic#{name}", identity, [f"{draw}\x1f{positive}"])[0]
            return phrases[int(uniform * len(phrases))]

        attributes = ("domain", self.domains), ("difficulty", self.difficulties), ("length", self.lengths)
        return self._filled(query, positive, *(drawn(name, phrases) for name, phrases in attributes))

    def fixed_parts(self) -> list[str]:
        """List the template's words between its placeholders."""
        return self._filled(_MARK, _MARK, _MARK, _MARK, _MARK).replace(json.dumps(_MARK), _MARK).split(_MARK)

    def _filled(self, query: str, positive: str, domain: str, difficulty: str, length: str) -> str:
        return Template(self.template or default_template()).substitute(
            query=json.dumps(query, ensure_ascii=False),
            positive=json.dumps(positive, ensure_ascii=False),
            domain=domain,
            difficulty=difficulty,
            length=length,
            schema=json.dumps(SCHEMA),
        )
