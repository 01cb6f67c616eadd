"""Groups of options that several commands share; each field is an option of its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, cast

from typer import Option

from hf_hardneg.corpus.columns import Columns
from hf_hardneg.errors import ConfigError
from hf_hardneg.runtime.arguments import fit

SOURCE = "file, folder, glob, URL of a database or Hub id, such as org/name:config:split"
CONFIRM = "run a job whose plan is above an hour"
WORKERS = "worker processes"
VERDICTS = "what a review wrote (default: beside the folder, if it is there)"
CACHE = "where indexes lie (default: under the datasets cache)"


@dataclass(frozen=True, kw_only=True)
class Printing:
    """How a command prints; every command has these options."""

    quiet: Annotated[bool, Option("--quiet", "-q", help="print results and errors alone, no progress")] = False
    as_json: Annotated[bool, Option("--json", help="print the result as JSON")] = False


@dataclass(frozen=True, kw_only=True)
class NamedColumns:
    """Names of columns by role."""

    columns: Annotated[
        list[str] | None,
        Option(
            metavar="ROLE=NAME ...",
            help="columns that are called otherwise, such as query=question positive=answer id=docid; text=title "
            f"text=body joins two; roles are {', '.join(Columns.__annotations__)}",
        ),
    ] = None

    @property
    def roles(self) -> Columns | None:
        """What `--columns` says; a role that stands twice has a list of columns.

        Raises:
            ConfigError: a value is no role with a column, or there is no such role.
        """
        roles: dict[str, list[str]] = {}
        for text in self.columns or ():
            role, equals, name = text.partition("=")
            if not equals:
                raise ConfigError(f"--columns got {text!r}; give a role and a column, such as query=question.")
            roles.setdefault(role, []).append(name)
        columns = {role: names[0] if len(names) == 1 else names for role, names in roles.items()}
        return cast("Columns | None", fit("hf-hardneg", "columns", columns or None, Columns | None))


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where what is computed lies."""

    cache_dir: Annotated[str | None, Option(help=CACHE)] = None


@dataclass(frozen=True, kw_only=True)
class ReadCorpus(NamedColumns, Placed):
    """How a corpus is read, and what makes vectors of it."""

    split: Annotated[
        str | None, Option(help="which of several splits (default: mine all; else train, of documents corpus)")
    ] = None
    encoder: Annotated[str | None, Option(help="Hub id or path of the model of strategies that compare vectors")] = None


@dataclass(frozen=True, kw_only=True)
class CorpusSource(ReadCorpus):
    """The corpus."""

    corpus: Annotated[str, Option(help=f"documents: {SOURCE}")]


@dataclass(frozen=True, kw_only=True)
class PairsOfCorpus(ReadCorpus):
    """The pairs, and the corpus that they are mined in."""

    pairs: Annotated[str, Option(help=f"queries with their positives: {SOURCE}")]
    corpus: Annotated[
        str | None,
        Option(
            help="documents, likewise (default: what lies beside the pairs, as in a BEIR folder, else all positives)"
        ),
    ] = None
    symmetric: Annotated[
        bool | None,
        Option(help="whether pairs hold in both directions, as duplicates do; --no-symmetric says that they do not"),
    ] = None

    @property
    def inputs(self) -> dict[str, Any]:
        """The arguments of `mine` that these options are, but for pairs and corpus."""
        return {
            "encoder": self.encoder,
            "symmetric": self.symmetric,
            "cache_dir": self.cache_dir,
            "columns": self.roles,
        }


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Where a dataset is saved, in which layout."""

    out: Annotated[str, Option(help="folder for the dataset; load_from_disk() reads it")] = ""
    format: Annotated[str, Option(help="a layout of to_format(), such as triplet")] = "list"
    scores: Annotated[
        str | None, Option(help="scores that the layout carries: of a filter, such as denoised, or retriever")
    ] = None
    overwrite: Annotated[bool, Option("--overwrite", help="replace the dataset that --out holds")] = False

    @property
    def told(self) -> dict[str, str]:
        """What JSON says of it."""
        return {"out": self.out, "format": self.format}
