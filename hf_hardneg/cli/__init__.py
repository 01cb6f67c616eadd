"""The command line, `hf-hardneg`, a file for each family of commands; `application.FAMILIES` lists them.

A command is a function of groups of options, dataclasses of which most stand in `option_groups`, under the decorator
`commands.command`. Its sources are read in `named_sources` alone; what it says goes through `terminal`.
"""

from hf_hardneg.cli.running import main

__all__ = ["main"]
