"""Pages and charts are templates of jinja2, which escapes every text that they show."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_hardneg.store.disk import written

if TYPE_CHECKING:
    from jinja2 import Environment


def rendered(name: str, **context: Any) -> str:
    """Fill in a template; a value that the template names and does not get is an error.

    Args:
        name (`str`): its path in the package, such as `"reports/histogram.svg.jinja"`.
        context: the values, by their names in the template.
    """
    return _environment().get_template(name).render(context)


def save_page(path: Path, content: str) -> Path:
    """Write a page, in the place of what is there, and return its path.

    Raises:
        StoreError: the disk refuses it.
    """
    with written(path, needed=len(content), other="path=") as partial:
        partial.write_text(content, encoding="utf-8")
    return path


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__name__.partition(".")[0], ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "tenths": "{:.1f}".format,
        "digits": "{:.4g}".format,
        "counted": "{:,}".format,
        "percent": lambda share: f"{100 * share:.2f} %",
    }
    return environment
