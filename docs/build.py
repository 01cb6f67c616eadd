"""The site: the README, the pages beside this file, and the reference of every module from its docstrings.

python docs/build.py [folder]
"""

import importlib
import pkgutil
import re
import shutil
import sys
import types
import warnings
from pathlib import Path

import pdoc
from pdoc.doc import Module

import hf_hardneg

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
PAGES = sorted((ROOT / "docs").glob("*.md"))
PAGE_LINK = re.compile(rf"\]\((?:docs/)?({'|'.join(file.stem for file in PAGES)})\.md")


def modules() -> dict[str, Module]:
    """Every module of the package by name; what `__getattr__` looks up lazily is put where pdoc sees it."""
    found = pkgutil.walk_packages(hf_hardneg.__path__, "hf_hardneg.")
    names = ["hf_hardneg", *(module.name for module in found if not module.name.endswith("__main__"))]
    for name in names:
        module = importlib.import_module(name)
        vars(module).update({member: getattr(module, member) for member in getattr(module, "__all__", ())})
    return {name: Module.from_name(name) for name in names}


def page(file: Path, title: str | None = None) -> Module:
    """A Markdown file as a page of its own, called as its heading; links to other such files lead to their pages."""
    heading, _, text = file.read_text().partition("\n")
    text = text.replace("](../README.md", "](index.html").replace("](../", "](")
    text = PAGE_LINK.sub(lambda link: f"]({link[1]}.html", text)
    module = types.ModuleType(title or heading.removeprefix("# "), text)
    module.__all__ = []
    return Module(module)


def main(site: Path) -> None:
    """Write the pages into a folder, and what they link to beside them; a warning of pdoc is an error."""
    warnings.filterwarnings("error", module="pdoc")
    # pdoc reads the fields of a NamedTuple, and those that a dataclass inherits, in a module that does not know them.
    warnings.filterwarnings("ignore", r"Error parsing type annotation .*\.__init__\.", UserWarning)
    # A TypedDict keeps no bases, so pdoc cannot tell where it has the roles of another from.
    warnings.filterwarnings("ignore", r"Cannot determine where .*(Columns|Options)\.", UserWarning)
    pdoc.render.configure(docformat="google", show_source=False, template_directory=Path(__file__).parent)
    documented = modules()
    pages = {name.replace(".", "/"): pdoc.render.html_module(module, documented) for name, module in documented.items()}
    pages["index"] = pdoc.render.html_module(page(ROOT / "README.md", "hf-hardneg"), documented)
    pages |= {file.stem: pdoc.render.html_module(page(file), documented) for file in PAGES}
    for name, text in pages.items():
        path = site / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (site / "search.js").write_text(pdoc.render.search_index(documented))
    written = "".join(file.read_text() for file in (ROOT / "README.md", *PAGES)).replace("](../", "](")
    for link in set(LINK.findall(PAGE_LINK.sub("", written))):
        source, target = ROOT / link, site / link
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "site"))
