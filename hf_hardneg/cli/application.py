"""The application that typer runs, put together from the families of commands."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from hf_hardneg.cli.commands import COMMANDS, SpreadingCommand, words
from hf_hardneg.cli.terminal import Manner, complain, manner

FAMILIES = (
    "mine_commands",
    "shard_commands",
    "audit_commands",
    "report_commands",
    "review_commands",
    "plan_commands",
    "compare_commands",
    "export_commands",
    "cache_commands",
    "hub_commands",
    "denoiser_commands",
    "demo_commands",
)
"""Files of this room that hold commands, in the order in which `--help` lists them."""
UsageError: Any = typer.BadParameter.__base__
GROUPS = {"cache": "What lies in the cache."}
"""Commands that have actions, and their help."""


def run(arguments: Sequence[str]) -> int:
    """Parse arguments and run the command; return its status, 2 where no command can be made of them."""
    token = words.set(tuple(arguments))
    try:
        status = application()(arguments, prog_name="hf-hardneg", standalone_mode=False)
    except UsageError as error:
        return _refused(error)
    finally:
        words.reset(token)
    return int(status or 0)


def application() -> typer.Typer:
    """Build the application of all commands; where standard output is a terminal, rich writes its help."""
    for family in FAMILIES:
        importlib.import_module(f"hf_hardneg.cli.{family}")
    look: Any = {"rich_markup_mode": "rich" if sys.stdout.isatty() else None, "add_completion": False}
    root = typer.Typer(callback=_root, no_args_is_help=True, pretty_exceptions_enable=False, **look)
    groups = {name: typer.Typer(help=text, no_args_is_help=True, **look) for name, text in GROUPS.items()}
    for name, function in COMMANDS:
        group, space, action = name.partition(" ")
        (groups[group] if space else root).command(action or group, cls=SpreadingCommand)(function)
    for name, actions in groups.items():
        root.add_typer(actions, name=name)
    return root


def _refused(error: Any) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        complain(error.format_message())
        return 2
    if context is not None:
        complain(f"{context.get_usage()}\nTry '{context.command_path} --help'.")
    complain(f"error: {error.format_message()}")
    return 2


def _version(wanted: bool) -> None:
    if wanted:
        import hf_hardneg

        typer.echo(f"hf-hardneg {hf_hardneg.__version__}")
        raise typer.Exit()


def _root(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print results and errors alone, no progress")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Hard-negative mining inside Hugging Face datasets."""
    manner.set(Manner(quiet=quiet, as_json=as_json))
