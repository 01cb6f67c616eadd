"""The README and the guides beside it: their Python blocks run as written, in order, and print what they say."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from hf_hardneg.cli import main
from hf_hardneg.cli.application import application
from hf_hardneg.formats import layouts
from hf_hardneg.strategies import table
from tests.cross_encoders import MINILM
from tests.worlds import encode

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.pin_memory. argument is set as true:UserWarning"),
    pytest.mark.filterwarnings("ignore:.* left out of the layout:hf_hardneg.errors.HardNegWarning"),
]

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
GUIDES = sorted(file for file in (ROOT / "docs").glob("*.md") if "```python" in file.read_text())
FILE = re.compile(r"<!-- (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"```bash\n(hf-hardneg [^\n]*)\n```\n\n```text\n(.*?)```", re.DOTALL)
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)


@pytest.fixture(scope="module", autouse=True)
def same_cache(tmp_path_factory):
    """One cache for all pages, which mine the same demonstration."""
    return tmp_path_factory.mktemp("cache")


def _lay_out(folder, text):
    """Write the files that a page shows, and the model that it names by its Hub id."""
    for name, content in FILE.findall(text):
        (folder / name).write_text(content)
    (folder / "sentence-transformers").mkdir()
    (folder / "sentence-transformers/all-MiniLM-L6-v2").symlink_to(MINILM)


@pytest.mark.parametrize("page", [README, *GUIDES], ids=lambda page: page.stem)
def test_the_blocks_run_and_print_what_stands_below_them(page, capsys, tmp_path, monkeypatch, same_cache):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", same_cache)
    text, names = page.read_text(), {"model": encode}
    _lay_out(tmp_path, text)
    for block, expected in BLOCK.findall(text):
        exec(block, names)
        shown = capsys.readouterr().out
        assert not expected or shown == expected


def test_the_first_command_prints_what_stands_below_it(capsys, tmp_path, monkeypatch, same_cache):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", same_cache)
    text = README.read_text()
    _lay_out(tmp_path, text)
    [(line, expected)] = COMMAND.findall(text)
    assert main(shlex.split(line)[1:]) == 0
    printed = capsys.readouterr()
    for part in expected.split("…\n"):
        assert part in printed.err + printed.out


COMMANDS = [
    (page, line)
    for page in [README, *sorted((ROOT / "docs").glob("*.md"))]
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("hf-hardneg ")
]


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=lambda value: getattr(value, "stem", value))
def test_the_commands_are_understood(page, line):
    _, *arguments = shlex.split(line, comments=True)
    command = typer.main.get_command(application())
    while hasattr(command, "resolve_command"):
        context = command.make_context("hf-hardneg", list(arguments), resilient_parsing=True)
        name, command, arguments = command.resolve_command(context, arguments)
    command.make_context(name, list(arguments)).close()


def test_the_readme_is_read_at_once():
    lines = README.read_text().splitlines()
    assert len(lines) <= 200 and max(map(len, [line for line in lines if not line.startswith(("|", "!"))])) <= 130


def test_the_table_of_strategies_is_the_generated_one():
    """Where it is not: `python -c 'from hf_hardneg.strategies import table; print(table())'`, and paste."""
    section = (ROOT / "docs/strategies.md").read_text().split("## All strategies")[1]
    assert table() in section


def test_the_table_of_layouts_is_the_generated_one():
    """Where it is not: `python -c 'from hf_hardneg.formats.layouts import table; print(table())'`, and paste."""
    text = (ROOT / "docs/layouts_of_trainers.md").read_text()
    assert layouts.table() in text and "`list`" in text


def test_the_decision_table_is_the_same_on_both_pages():
    tables = [
        re.search(r"\| you have .*?\n\n", page.read_text(), re.DOTALL)[0]
        for page in (README, ROOT / "docs/strategies.md")
    ]
    assert tables[0].replace("](docs/", "](") == tables[1]
