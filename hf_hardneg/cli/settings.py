"""`--set part.option=value`: options of the parts of a strategy, by the names that strategies are written with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from hf_hardneg.errors import ConfigError, unknown_name
from hf_hardneg.filters import FILTERS
from hf_hardneg.recipes.plain_yaml import plain_values
from hf_hardneg.samplers import SAMPLERS, Mixture
from hf_hardneg.strategies import Strategy


def with_settings(strategy: Strategy, settings: Sequence[str]) -> Strategy:
    """Replace options of the parts of a strategy.

    Args:
        strategy (`Strategy`): its parts.
        settings (`Sequence[str]`): such as `"rank_window.first=5"`, values in YAML; `bm25.config.k1=1.2` reaches into
            an option that has options itself.

    Raises:
        UnknownNameError: the strategy has no such part, or the part no such option.
        ConfigError: it is no setting, or the value is not allowed.

    Example:
        >>> from hf_hardneg.cli.settings import with_settings
        >>> from hf_hardneg.strategies import STRATEGIES
        >>> with_settings(STRATEGIES["margin"], ["rank_window.first=5"]).filters[0]
        RankWindow(first=5, last=200, basis='no_positives')
    """
    for setting in settings:
        path, equals, text = setting.partition("=")
        part, *options = path.split(".")
        if not (equals and options and all(options)):
            raise ConfigError(
                f"--set got {setting!r}; allowed is PART.OPTION=VALUE. Give one such as rank_window.first=5."
            )
        strategy = _with_setting(strategy, part, options, _value(setting, text))
    return strategy


def _value(setting: str, text: str) -> Any:
    try:
        return plain_values(text)
    except ValueError as error:
        raise ConfigError(
            f"--set {setting}: {text!r} is no value ({error}); allowed is YAML, such as 5, 0.05, true, survivors or "
            "[1, 2]. Quote it."
        ) from error


def _with_setting(strategy: Strategy, part: str, options: Sequence[str], value: Any) -> Strategy:
    if part == (union := strategy.retriever).name and len(strategy.retrievers) > 1:
        strategy = replace(strategy, retrievers=(union,))
    if part not in (names := part_names(strategy)):
        known = part in FILTERS or part in SAMPLERS
        add = f" Add it to the strategy, as in --strategy NAME+{part}." if known else ""
        raise ConfigError(f"{unknown_name('part of the strategy in --set', part, names)}{add}")

    def changed(stage: Any) -> Any:
        if stage.name == part:
            return _replaced(stage, part, options, value)
        members = getattr(stage, "members", ())
        if any(member.name == part for member in members):
            return replace(stage, members=tuple(map(changed, members)))
        return replace(stage, of=changed(stage.of)) if isinstance(stage, Mixture) else stage

    return Strategy(
        tuple(map(changed, strategy.retrievers)), tuple(map(changed, strategy.filters)), changed(strategy.sampler)
    )


def part_names(strategy: Strategy) -> list[str]:
    """Name the parts of a strategy, the members of a union, and what a mixture mixes."""
    stages: Any = (strategy.retriever, *strategy.retriever.parts, *strategy.filters, strategy.sampler, strategy.chooser)
    return list(dict.fromkeys(stage.name for stage in stages))


def _replaced(stage: Any, called: str, options: Sequence[str], value: Any) -> Any:
    """Replace an option of a dataclass, or of what it holds."""
    name, *deeper = options
    taken = {option.name for option in fields(stage) if option.init}
    if not taken:
        raise ConfigError(f"--set {called}.{name}: {called} has no options. Leave it out.")
    if name not in taken:
        raise unknown_name(f"option of {called} in --set", name, taken)
    if deeper:
        held = getattr(stage, name)
        if not is_dataclass(held):
            raise ConfigError(
                f"--set {called}.{name} is {held!r}, which has no options of its own. Give {called}.{name}=VALUE."
            )
        value = _replaced(held, f"{called}.{name}", deeper, value)
    try:
        return replace(stage, **{name: value})
    except ConfigError as error:
        raise ConfigError(f"--set {called}.{name}: {error}") from error
