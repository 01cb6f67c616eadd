"""Pages and charts are templates of jinja2, which escapes every text that they show."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template


def rendered(package: str, name: str, **context: Any) -> str:
    """Fills in a template of a package; a value that the template names and does not get is an error.

    Args:
        package (`str`): dotted name of the package that has the file.
        name (`str`): of the file.
        context: the values, by their names in the template.
    """
    return _template(package, name).render(context)


@functools.cache
def _template(package: str, name: str) -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"tenths": "{:.1f}".format, "digits": "{:.4g}".format, "counted": "{:,}".format}
    return environment.from_string(files(package).joinpath(name).read_text(encoding="utf-8"))
