"""A real retrieval set that every machine has: the documentation of Python's own standard library.

Query: the first sentence of an object's docstring. Positive: the rest of it, with the signature. Read from source with
`ast`, so nothing is imported and nothing runs; a few built-in modules, which have no source, are inspected.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import itertools
import math
import re
import sys
import sysconfig
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

BUILT_IN = (builtins, itertools, math, sys, time)
SKIPPED = {"test", "tests", "idle_test", "idlelib", "lib2to3", "site-packages", "turtledemo", "ensurepip"}
MIN_QUERY_WORDS = 3

_SENTENCE = re.compile(r"(?s)(.+?[.!?])(?:\s+|$)(.*)")


@functools.cache
def standard_library() -> tuple[Dataset, Dataset]:
    """Return pairs and corpus of the running interpreter's standard library, read once in a process.

    Returns:
        pairs (`query_id`, `query`, `positive_ids`) and corpus (`_id`, `text`). Objects that share a first
        sentence are positives of one query.

    Example:
        >>> from hf_hardneg.demo import standard_library
        >>> pairs, corpus = standard_library()
        >>> pairs.column_names, corpus.column_names
        (['query_id', 'query', 'positive_ids'], ['_id', 'text'])
    """
    from datasets import Dataset

    documents: dict[str, str] = {}
    queries: dict[str, list[str]] = {}
    for name, signature, docstring in sorted(_objects()):
        first, rest = _split(docstring)
        if name in documents:
            continue
        text = f"{signature}\n\n{rest or first}"
        documents[name] = text
        if rest and len(first.split()) >= MIN_QUERY_WORDS and first.lower() not in text.lower():
            queries.setdefault(first, []).append(name)
    corpus = {"_id": list(documents), "text": list(documents.values())}
    pairs = {
        "query_id": [names[0] for names in queries.values()],
        "query": list(queries),
        "positive_ids": list(queries.values()),
    }
    return Dataset.from_dict(pairs), Dataset.from_dict(corpus)


def _objects() -> Iterator[tuple[str, str, str]]:
    """Yield the qualified name, signature and docstring of every documented object."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if not SKIPPED.intersection(parts) and not parts[0].startswith(("config-", "_sysconfigdata")):
            tree = _parsed(path)
            if tree is not None:
                yield from _documented(tree, ".".join(part for part in parts if part != "__init__"))
    for module in BUILT_IN:
        yield from _inspected(module, module.__name__)


def _parsed(path: Path) -> ast.Module | None:
    """Parse a file; `None` for one that is broken on purpose, as some of the library's tests are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            return None


def _documented(node: Any, name: str) -> Iterator[tuple[str, str, str]]:
    docstring = ast.get_docstring(node)
    if docstring:
        yield name, _signature(node, name), docstring
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not is_function:
            yield from _documented(child, f"{name}.{child.name}")


def _signature(node: Any, name: str) -> str:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return f"{name}({ast.unparse(node.args)})"
    if isinstance(node, ast.ClassDef):
        return f"class {name}({', '.join(map(ast.unparse, node.bases))})"
    return f"module {name}"


def _inspected(owner: Any, name: str) -> Iterator[tuple[str, str, str]]:
    for attribute, value in sorted(vars(owner).items()):
        if owner is sys:  # hooks, such as excepthook, may be replaced; the interpreter's are under __excepthook__
            value = getattr(sys, f"__{attribute}__", value)
        documented = isinstance(value, type) or callable(value)
        docstring = inspect.getdoc(value) if documented else None
        if attribute.startswith("_") or not docstring or not _is_standard(value):
            continue
        full = f"{name}.{attribute}"
        signature = getattr(value, "__text_signature__", None) or "(...)"
        yield full, f"{full}{signature}", docstring
        if isinstance(value, type) and not isinstance(owner, type):
            yield from _inspected(value, full)


def _is_standard(value: Any) -> bool:
    """Say whether a thing is the interpreter's: shells such as IPython put theirs into `builtins` and `sys`."""
    module = getattr(value, "__module__", None) or "builtins"
    return module.partition(".")[0] in sys.stdlib_module_names


def _split(docstring: str) -> tuple[str, str]:
    """Split a docstring into its first sentence, on one line, and the rest."""
    paragraph, _, rest = docstring.strip().partition("\n\n")
    match = _SENTENCE.fullmatch(paragraph)
    first, tail = match.groups() if match else (paragraph, "")
    return " ".join(first.split()), f"{tail}\n\n{rest}".strip()
