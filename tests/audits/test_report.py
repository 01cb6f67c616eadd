"""The report as text, as plain values, as a page; the command line; what cannot be audited."""

import doctest
import json
from html.parser import HTMLParser

import pytest
from datasets import Dataset, DatasetDict

from hf_hardneg import audit, save_format, to_format
from hf_hardneg.audits import CHECKS, auditing
from hf_hardneg.cli import main
from hf_hardneg.errors import ColumnError, ConfigError, DataError, UnknownNameError

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</pre></table></svg><h1>out</h1>",
    "&lt;b&gt; {{ 7 * 7 }} ${x} <!--",
    "\x00\x1b[31mred\x7f\u202e\ufffe",
    "javascript:alert(1)",
]


def bad_rows():
    return Dataset.from_dict(
        {
            "query": ["sky colour", "sea", "<b>&"],
            "positive": [["blue"], ["water"], ["<i>"]],
            "negatives": [["Blue", "red"], ["salt", "salt"], ["<i>", "x"]],
            "positive_scores": [[1.0], [1.0], [0.0]],
            "negative_scores": [[0.5, 0.25], [2.0, float("nan")], [0.5, float("-inf")]],
        }
    )


class Page(HTMLParser):
    """Tags, whether they close in order, and the text between."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        assert not any(name.startswith("on") or name == "src" for name, _ in attributes)
        if tag not in ("meta", "rect", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("rect", "path"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_as_text_and_as_values():
    found = audit(bad_rows())
    shown = str(found)
    for one in found.findings:
        assert one.name in shown and one.says in shown and one.todo in shown and f"{100 * one.share:.2f} %" in shown
    severities = [one.severity for one in found.findings]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert "3 errors" in shown.splitlines()[0] and found.summary in shown
    assert all(f"{name:<20} needs" in shown for name in found.unchecked)
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [one["count"] for one in stored["findings"]] == list(found.counts.values())
    assert stored["ok"] is False is bool(found)
    assert not found.counts.keys() & found.unchecked.keys() and found.counts.keys() <= CHECKS.keys()


def test_histograms_hold_every_number():
    found = audit(bad_rows())
    by_label = {one.x_label: one for one in found.histograms}
    assert by_label["negatives"].counts == (0, 0, 3)
    assert sum(by_label["overlap"].counts) == found.negatives
    assert sum(by_label["(s+ - s) / |s+|"].counts) == 4
    wide = Dataset.from_dict({"query": ["q"], "positive": ["p"], "negatives": [[str(one) for one in range(60)]]})
    assert audit(wide).histograms[0].edges[-1] == float("inf")


def test_the_page(tmp_path):
    found = audit(bad_rows(), judge=lambda queries, documents: [0.9] * len(queries))
    path = found.html(tmp_path / "audit.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert not page.open and page.tags.count("svg") == 3 and "script" not in page.tags
    text = " ".join(page.text)
    for one in found.findings:
        assert one.says in text and one.todo in text
    assert "sky colour" in text and "<b>&" in text and str(found.estimate) in text
    assert "http" not in path.read_text().replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")


def test_scores_are_shown_in_four_digits(tmp_path):
    rows = {"query": ["q"], "positive": [["p"]], "negatives": [["p"]]}
    scores = {"positive_scores": [[0.123456789]], "negative_scores": [[1 / 3]]}
    found = audit(Dataset.from_dict(rows | scores))
    for shown in (str(found), found.html(tmp_path / "audit.html").read_text(encoding="utf-8")):
        assert "0.1235" in shown and "0.3333" in shown and "0.12345" not in shown and "0.33333" not in shown


def test_hostile_texts_come_out_inert(tmp_path):
    rows = Dataset.from_dict({"query": HOSTILE, "positive": HOSTILE, "negatives": [[text, text] for text in HOSTILE]})
    found = audit(rows, judge=lambda queries, documents: [0.9] * len(queries))
    page = Page(found.html(tmp_path / "audit.html").read_text(encoding="utf-8"))
    assert not page.open and {"script", "img"}.isdisjoint(page.tags) and page.tags.count("h1") == 1
    assert HOSTILE[0] in " ".join(page.text)
    assert not any(ord(character) < 32 and character != "\n" for character in str(found))


def test_the_command_line(tmp_path, capsys):
    save_format(to_format(bad_rows(), "flagembedding"), "flagembedding", tmp_path)
    assert main(["audit", f"{tmp_path}/train.jsonl", f"--html={tmp_path}/page.html"]) == 1
    shown = capsys.readouterr().out
    assert "positive_normalized" in shown and "layout flagembedding" in shown and (tmp_path / "page.html").exists()
    clean = Dataset.from_dict({"query_id": ["q"], "query": ["a"], "positive": ["b"], "negatives": [["c"]]})
    corpus = Dataset.from_dict({"key": ["1", "2"], "body": ["b", "c"]})
    corpus.to_parquet(tmp_path / "corpus.parquet")
    DatasetDict({"train": clean, "test": clean}).save_to_disk(tmp_path / "saved")
    clean.to_parquet(tmp_path / "clean.parquet")
    columns = [f"--corpus={tmp_path}/corpus.parquet", "--columns", "id=key", "text=body"]
    assert main(["audit", f"{tmp_path}/clean.parquet", *columns]) == 0
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\t2\t1\n")
    assert main(["audit", f"{tmp_path}/clean.parquet", *columns, f"--qrels={tmp_path}/qrels.tsv"]) == 1
    assert "judged_relevant" in capsys.readouterr().out
    assert main(["audit", f"{tmp_path}/saved"]) == 1
    assert main(["audit", f"{tmp_path}/clean.parquet", f"--test={tmp_path}/clean.parquet"]) == 1
    assert capsys.readouterr().out.count("leaked_query  ") == 2
    assert main(["audit", f"{tmp_path}/nothing.parquet"]) == 2
    assert "error: " in capsys.readouterr().err


ROWS = Dataset.from_dict({"query": ["a"], "positive": ["b"], "negatives": [["c"]]})
IDS = Dataset.from_dict({"query_id": ["1"], "document_ids": [["p", "n"]], "scores": [[1.0, 0.5]]})


@pytest.mark.parametrize(
    ("given", "error", "parts"),
    [
        (
            {"dataset": 5},
            ConfigError,
            ["got a int", "a Dataset, an IterableDataset, or a DatasetDict", "Give one"],
        ),
        ({"dataset": ROWS, "layout": "triplets"}, UnknownNameError, ["'triplets'", "known are", "Did you mean"]),
        ({"dataset": ROWS.select_columns(["query"])}, ColumnError, ["'query'", "Known are", "Rename"]),
        ({"dataset": ROWS, "layout": "flagembedding"}, ColumnError, ["needs 'pos'", "has 'query'", "Rename"]),
        ({"dataset": ROWS, "layout": "labeled-list"}, ColumnError, ["'negatives'", "those of 'list'", "Leave out"]),
        ({"dataset": ROWS, "layout": "beir"}, ConfigError, ["three tables", "give a mapping"]),
        ({"dataset": ROWS.select([])}, DataError, ["0 rows", "one at least", "Give the split"]),
        ({"dataset": DatasetDict({"dev": ROWS})}, ConfigError, ["no split 'train'", "there are dev", "split="]),
        (
            {"dataset": ROWS, "corpus": 5},
            ConfigError,
            ["audit(corpus=5) of type int", "allowed is a Dataset, DatasetDict or stream", "Give one"],
        ),
        ({"dataset": ROWS, "corpus": IDS}, ColumnError, ["no column 'text'", "it has", "columns={'text'"]),
        ({"dataset": ROWS, "qrels": {"1": ["1"]}}, ConfigError, ["needs ids", "none of queries", "Give queries="]),
        ({"dataset": IDS, "qrels": {"1": {"n": "very"}}}, DataError, ["no numbers", "above 0", "Convert"]),
        (
            {"dataset": ROWS.remove_columns("negatives"), "layout": "list"},
            ColumnError,
            ["'negative_ids'", "has 'query'"],
        ),
        (
            {"dataset": ROWS.add_column("negative_scores", [["high"]] * len(ROWS))},
            DataError,
            ["'negative_scores' are string", "read as float", "Convert"],
        ),
        ({"dataset": ROWS, "qrels": {"1": "b"}}, ConfigError, ["'b'", "allowed are", "Give"]),
        ({"dataset": ROWS, "qrels": ["1"]}, ConfigError, ["of type list", "a Dataset or a mapping", "Give"]),
        ({"dataset": ROWS, "qrels": ROWS}, ColumnError, ["query-id", "'negatives'", "Rename"]),
        (
            {"dataset": ROWS, "test_queries": 5},
            ConfigError,
            ["of type int", "a Dataset or a list, each a string", "Give"],
        ),
        ({"dataset": ROWS, "test_queries": IDS.rename_column("query_id", "x")}, ColumnError, ["'x'", "must hold"]),
        (
            {
                "dataset": Dataset.from_dict({"query": ["a"], "negatives": [["b"]], "negative_ids": [["1"]]}),
                "corpus": Dataset.from_dict({"_id": ["1", "1"], "text": ["b", "c"]}),
            },
            DataError,
            ["repeat the id", "'1'", "Drop the copies"],
        ),
        (
            {"dataset": DatasetDict({"train": IDS, "queries": IDS, "documents": IDS})},
            ColumnError,
            ["needs 'query_id' and 'text'", "Rename"],
        ),
    ],
)
def test_what_cannot_be_audited(given, error, parts):
    with pytest.raises(error) as caught:
        audit(**given)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_the_example_in_the_docstring():
    assert doctest.testmod(auditing, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0
