"""What a terminal would obey is shown as an escape, wherever text from outside is printed."""

import json
import unicodedata
import warnings

import pytest
from datasets import Dataset

from hf_hardneg.audits import audit
from hf_hardneg.cli import main
from hf_hardneg.errors import DataError, EndpointError, HardNegWarning, UnknownNameError, shown, unknown_name, warn
from hf_hardneg.hub.reproduction import Reproduction
from tests.worlds import world

OBEYED = "a\x1b[2Jb\rc\x07d\u202ee\u2066f\x9bg\u200bh\x08i\ud800j\u2028k"
ESCAPED = r"a\x1b[2Jb\rc\x07d\u202ee\u2066f\x9bg\u200bh\x08i\ud800j\u2028k"


def obeyed(text):
    """The characters of a text that act on a terminal, or cannot be written to it."""
    return [one for one in text if one != "\n" and unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


def test_every_character_that_acts_is_escaped_and_every_other_stays():
    assert shown(OBEYED) == ESCAPED
    for number in range(0x110000):
        one = chr(number)
        acts = unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") or one in BIDIRECTIONAL
        assert not acts or one in "\n\t" or shown(one).isascii(), hex(number)
    assert shown("नमस्ते 👩‍🔬 ‌می‌خواهم\n\té ü") == "नमस्ते 👩‍🔬 ‌می‌خواهم\n\té ü"


BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.parametrize("kind", [DataError, EndpointError, UnknownNameError])
def test_errors_quote_what_they_name_without_obeying_it(kind):
    error = kind(f"The column {OBEYED} is not there.")
    assert str(error) == f"The column {ESCAPED} is not there." and error.args[0].count(OBEYED) == 1
    assert obeyed(str(unknown_name("strategy", OBEYED * 1000, ["bm25"]))) == []
    assert len(str(unknown_name("strategy", OBEYED * 100_000, ["bm25"]))) < 2000


def test_warnings_do_too():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn(f"The id {OBEYED} stands twice.")
    assert caught[0].category is HardNegWarning and str(caught[0].message) == f"The id {ESCAPED} stands twice."


def test_results_that_are_printed_do_too():
    made = Reproduction(repo_id="ada/set", sha="0" * 40, rows=2, differing={OBEYED: (1,)}, columns={OBEYED: 1})
    assert obeyed(str(made)) == [] and ESCAPED in str(made)
    rows = Dataset.from_dict({"query": ["q", "r"], "positive": [f"{OBEYED[:20]} x"] * 2, "negative": ["n", "n"]})
    assert obeyed(str(audit(rows))) == []


def test_the_command_line_obeys_no_row_no_name_and_no_file(tmp_path, capsys):
    pairs, corpus = world(1)
    acting = OBEYED.replace("\ud800", "").replace("\u2028", "")
    corpus = corpus.map(lambda row: {"text": f"{acting} {row['text']}"})
    for name, rows in (("pairs", pairs), ("corpus", corpus)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(dict(row)) for row in rows))
    files = [f"--pairs={tmp_path}/pairs.jsonl", f"--corpus={tmp_path}/corpus.jsonl", "--strategy=bm25"]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["mine", *files, f"--out={tmp_path}/out\x1b[7m", f"--cache-dir={tmp_path}/cache"]) == 0
    out, err = capsys.readouterr()
    assert obeyed(err) == [] and err.startswith("warning: ")
    assert obeyed(out) == [] and r"\x1b[2Jb" in out and r"out\x1b[7m" in out
    assert main(["audit", f"{tmp_path}/none\x1b[5m\r.jsonl"]) == 2
    _, err = capsys.readouterr()
    assert obeyed(err) == [] and r"none\x1b[5m\r.jsonl" in err
    assert main(["audit", "a.jsonl", "b\x1b[5m.jsonl"]) == 2
    assert obeyed(capsys.readouterr().err) == []
