"""`command` makes a command of a function, whose arguments are groups of options: dataclasses with a field for each.

So that options stay a list of a few lines each, typer is shown the fields of all groups as one signature.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextvars import ContextVar
from dataclasses import MISSING, Field, fields
from typing import Any, NamedTuple, TypeVar, get_type_hints

from typer.core import TyperCommand

from hf_hardneg.cli.option_groups import Printing
from hf_hardneg.cli.stopping import Stopped
from hf_hardneg.cli.terminal import Manner, complain, manner
from hf_hardneg.runtime.progress import alone, before_import, standing

F = TypeVar("F", bound=Callable[..., int | None])
KEPT = "What is finished is kept in the cache: the same command goes on from there."


words: ContextVar[tuple[str, ...]] = ContextVar("words", default=())
"""What was typed after `hf-hardneg`."""


class Registered(NamedTuple):
    """A command: its name, with a space before that of an action, and the function that typer runs."""

    name: str
    run: Callable[..., int]


COMMANDS: list[Registered] = []
"""Every command, in the order in which its family is listed."""


class SpreadingCommand(TyperCommand):
    """A command whose options that may stand several times also take several values at once: `--columns a=b c=d`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments, of which `--name a b` is read as `--name a --name b`."""
        repeated = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        return super().parse_args(ctx, list(spread(args, repeated)))


def spread(arguments: Sequence[str], repeated: AbstractSet[str]) -> Iterator[str]:
    """Put the name of a repeated option before every value that follows it."""
    name, is_first = "", False
    for argument in arguments:
        if argument.startswith("-") and len(argument) > 1:
            name, is_first = (argument if argument in repeated else ""), True
        elif name and not is_first:
            yield name
        else:
            is_first = False
        yield argument


def command(name: str, *, kept: str = KEPT) -> Callable[[F], F]:
    """Register a function as a command; its docstring is the help.

    Args:
        name (`str`): what users type, such as `"cache ls"`.
        kept (`str`, *optional*): what a signal that stops it leaves, and how to go on.
    """

    def register(function: F) -> F:
        kinds = get_type_hints(function)
        groups = [kinds[argument] for argument in inspect.signature(function).parameters]

        def run(**values: Any) -> int:
            parts = [_filled(group, values) for group in groups]
            printing = _filled(Printing, values)
            before = manner.get()
            chosen = Manner(quiet=printing.quiet or before.quiet, as_json=printing.as_json or before.as_json)
            token = manner.set(chosen)
            try:
                if not chosen.quiet:
                    before_import("datasets", "Loading datasets …")
                with alone(hidden=chosen.quiet):
                    return function(*parts) or 0
            except Stopped as stopped:
                where = standing()
                complain(f"{stopped}: stopped{f' at {where}' if where else ''}. {kept}")
                raise
            finally:
                manner.reset(token)

        parameters = [parameter for group in (*groups, Printing) for parameter in _parameters(group)]
        parameters.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)
        run.__doc__, run.__name__ = function.__doc__, function.__name__
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__dict__["__signature__"] = inspect.Signature(parameters)
        COMMANDS.append(Registered(name, run))
        return function

    return register


def words_of_shards(in_place: str) -> tuple[str, ...]:
    """Return the command that runs, as a shell takes it, with `in_place` for its shard, and nothing overwritten."""
    typed, quoted = words.get(), ["hf-hardneg"]
    for before, word in zip(("", *typed), typed, strict=False):
        if before == "--shard":
            quoted.append(in_place)
        elif word.startswith("--shard="):
            quoted.append(f"--shard={in_place}")
        elif word != "--overwrite":
            quoted.append(shlex.quote(word))
    return tuple(quoted)


def _filled(group: type[Any], values: dict[str, Any]) -> Any:
    return group(**{option.name: values[option.name] for option in fields(group)})


def _parameters(group: type[Any]) -> list[inspect.Parameter]:
    kinds = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            option.name, inspect.Parameter.KEYWORD_ONLY, default=_default(option), annotation=kinds[option.name]
        )
        for option in fields(group)
    ]


def _default(option: Field[Any]) -> Any:
    return inspect.Parameter.empty if option.default is MISSING else option.default
