"""Recipes as YAML files: a strategy and the numbers beside it, to be kept beside code and used on other data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from hf_hardneg.errors import ConfigError, unknown_name
from hf_hardneg.hard_negatives import HardNegatives
from hf_hardneg.recipes.plain_yaml import MOST, plain_values
from hf_hardneg.recipes.recipe import Recipe, option_names
from hf_hardneg.recipes.serialization import plain, rebuilt
from hf_hardneg.runtime.arguments import check_options
from hf_hardneg.store.disk import check_writable, written
from hf_hardneg.strategies import Strategy
from hf_hardneg.text.recipe_text import check_sizes

HEAD = "# A recipe of hf_hardneg: hf-hardneg mine --recipe FILE\n"
OF_FILES = ("strategy", "options")
OF_RECIPES = {part.name for part in fields(Recipe)} | {"format", "configs"}
"""What `Recipe.to_json` and a card have beside it, of the data that were mined."""


def save_recipe(path: str, strategy: Strategy, options: Mapping[str, Any]) -> None:
    """Write a strategy and options as YAML, in the place of a file that is there.

    Args:
        path (`str`): of the file.
        strategy (`Strategy`): of known classes.
        options (`Mapping`): arguments of `HardNegatives`; those that no file holds are left out.

    Raises:
        ConfigError: a part of the strategy is of the user's own.
        ConfigError: nothing can be written there.
        StoreError: the disk refuses it.
    """
    import yaml

    numbers = {name: plain(options[name]) for name in option_names() if options.get(name) is not None}
    values = {"strategy": plain(strategy), "options": numbers}
    rebuilt(values["strategy"])
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    check_writable(path, "--save-recipe")
    with written(Path(path), other="--save-recipe") as partial:
        partial.write_text(HEAD + text, encoding="utf-8")


def read_recipe(path: str) -> tuple[str | Strategy, dict[str, Any]]:
    """Read the strategy and the options in a YAML file, or in what `Recipe.to_json` wrote.

    It chooses strategies and numbers; no model, device, place or address, and nothing in it is evaluated.

    Raises:
        ConfigError: there is no such file, or it is no recipe.
        UnknownNameError: it names a class, part or option that there is not.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            values = plain_values(stream.read(MOST + 1))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The recipe {path} cannot be read: {error}. Give a YAML file, such as --save-recipe writes."
        ) from error
    if not isinstance(values, dict) or not isinstance(strategy := values.get("strategy"), str | dict):
        raise ConfigError(
            f"{path} is no recipe: it must have a strategy, a name or parts, and may have options. Write one with "
            "--save-recipe."
        )
    known = OF_RECIPES if "format" in values else set(OF_FILES)
    for name in values.keys() - known:
        raise unknown_name(f"part of the recipe {path}", str(name), OF_FILES)
    return strategy if isinstance(strategy, str) else _strategy(path, strategy), _options(path, values.get("options"))


def _strategy(path: str, values: dict[str, Any]) -> Strategy:
    try:
        check_sizes(values)
    except ValueError as error:
        raise ConfigError(
            f"The strategy in {path} has a number that is too large: {error}. Give a smaller one."
        ) from error
    strategy = rebuilt(values)
    if not isinstance(strategy, Strategy):
        raise ConfigError(
            f"The strategy in {path} is a {type(strategy).__name__}; give one of class Strategy, or a name."
        )
    return strategy


def _options(path: str, values: Any) -> dict[str, Any]:
    if not isinstance(values, Mapping | None):
        raise ConfigError(f"The options in {path} are a {type(values).__name__}; give names with values.")
    for name in values or {}:
        if name not in option_names():
            raise unknown_name(f"option of the recipe {path}", str(name), option_names())
    check_options(f"The recipe {path}: HardNegatives", HardNegatives, values or {})
    return dict(values or {})
