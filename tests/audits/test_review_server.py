"""The server of the page in a process of its own: who gets an answer, what is kept, and that texts stay texts."""

import json
import re
from urllib.parse import quote, urlsplit

import pytest
from datasets import Dataset, concatenate_datasets, load_from_disk

from hf_hardneg import Verdicts, mine, review
from hf_hardneg.audits.review_server import LONGEST_BODY
from hf_hardneg.errors import ColumnError, ConfigError, DataError
from tests.audits.pages import asked, rows_of, running
from tests.hub.hostile import TEXTS
from tests.worlds import world

pytestmark = pytest.mark.slow

SUSPICIOUS = f"rows?order={quote('most suspicious first')}"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of a page of mined rows, and the file of its verdicts."""
    folder = tmp_path_factory.mktemp("review")
    mine(*world(4), num_negatives=3, cache_dir=str(folder / "cache")).save_to_disk(folder / "mined")
    with running(folder / "mined", folder / "v.jsonl") as url:
        yield url, folder / "v.jsonl"


@pytest.fixture
def url(served):
    return served[0]


def test_the_page_and_its_files(url):
    status, headers, page = asked(url)
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "nonce" not in policy
    assert "require-trusted-types-for 'script'" in policy and "frame-ancestors 'none'" in policy
    assert "<script src=" in page and page.count("<script") == 1 and "style=" not in page
    assert not re.search(r"\son\w+=", page)
    token = urlsplit(url).path.strip("/")
    assert token not in page and len(token) >= 43
    for name in ("look.css", "review.css", "review.js"):
        status, headers, content = asked(url, name)
        assert status == 200 and headers["X-Content-Type-Options"] == "nosniff" and content
        assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"
    assert "innerHTML" not in asked(url, "review.js")[2]


@pytest.mark.parametrize("path", ["", "review.js", SUSPICIOUS])
@pytest.mark.parametrize("token", ["", "x", "x" * 43, "\u00e9", "..", "%2e%2e"])
def test_without_the_token_nothing_is_answered(token, path, url):
    status, headers, content = asked(url, path, token=quote(token, safe="%."))
    assert status == 403 and "lacks its token" in content and "Content-Security-Policy" in headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", "0.0.0.0"])
def test_a_name_that_somebody_has_lead_here_is_refused(host, url):
    assert asked(url, headers={"Host": host})[0] == 421
    port = urlsplit(url).port
    assert asked(url, headers={"Host": f"evil.example:{port}"})[0] == 421
    assert asked(url, headers={"Host": f"localhost:{port}"})[0] == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "file://", "http://127.0.0.1:1"])
def test_another_page_cannot_send_verdicts(origin, served):
    url, path = served
    before = path.read_bytes()
    status, *_ = asked(
        url, "verdict", method="POST", body={"row": 0, "place": 0, "score": 1}, headers={"Origin": origin}
    )
    assert status == 403 and path.read_bytes() == before
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        sent = {"method": "POST", "body": '{"row":0,"place":0,"score":1}', "headers": {"Content-Type": kind}}
        assert asked(url, "verdict", **sent)[0] == 415
    assert asked(url, "verdict?row=0&place=0&score=1")[0] == 404 and path.read_bytes() == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"row": 10**30, "place": 0, "score": 1}, 404),
        ({"row": -1, "place": 0, "score": 1}, 404),
        ({"row": 0, "place": 99, "score": 1}, 404),
        ({"row": 0, "place": -1, "score": 1}, 404),
        ({"row": "0", "place": 0, "score": 1}, 400),
        ({"row": 0, "place": 0, "score": 2}, 400),
        ({"row": 0, "place": 0, "score": True}, 400),
        ({"row": 0, "place": 0, "score": 1, "drawn": 1}, 400),
        ({"row": 0, "place": 0}, 400),
        ("[]", 400),
        ("{", 400),
        ("[" * 9000, 400),
        ("x" * (LONGEST_BODY + 1), 413),
    ],
)
def test_odd_verdicts_are_refused_and_nothing_is_written(body, status, served):
    url, path = served
    before = path.read_bytes()
    assert asked(url, "verdict", method="POST", body=body)[0] == status
    assert path.read_bytes() == before


@pytest.mark.parametrize("length", ["-1", "x", "9" * 5000, "1_0", "\u0663"])
def test_odd_lengths_are_refused(length, url):
    sent = {"Content-Type": "application/json", "Content-Length": length.encode("utf-8").decode("latin-1")}
    assert asked(url, "verdict", method="POST", headers=sent)[0] == 413


@pytest.mark.parametrize("query", ["rows", "rows?order=x", f"{SUSPICIOUS}&start=x", f"{SUSPICIOUS}&count={'9' * 5000}"])
def test_odd_questions_are_refused(query, url):
    assert asked(url, query)[0] == 400
    assert asked(url, "../etc/passwd")[0] == asked(url, "review.py")[0] == 404


@pytest.mark.parametrize("start", [-5, 10**30, 36])
def test_beyond_the_ends_there_is_nothing(start, url):
    status, _, content = asked(url, f"{SUSPICIOUS}&start={start}&count=-1")
    assert status == 200 and json.loads(content)["units"] == []


def test_a_verdict_is_kept_and_taken_back(served):
    url, path = served
    unit = json.loads(asked(url, f"{SUSPICIOUS}&start=0")[2])["units"][0]
    place = unit["place"]
    assert unit["negatives"][place]["verdict"] is None

    def post(name, **body):
        return json.loads(asked(url, name, method="POST", body=body)[2])

    assert post("verdict", row=unit["row"], place=place, score=1)["counts"] == {"judged": 1, "relevant": 1}
    assert len(path.read_bytes().splitlines()) == 1
    assert post("verdict", row=unit["row"], place=place, score=0)["counts"] == {"judged": 1, "relevant": 0}
    assert post("undo") == {"row": unit["row"], "place": place, "verdict": 1, "counts": {"judged": 1, "relevant": 1}}
    shown = json.loads(asked(url, f"{SUSPICIOUS}&start=0")[2])["units"][0]
    assert shown["negatives"][place]["verdict"] == 1
    assert post("undo")["counts"] == {"judged": 0, "relevant": 0}
    assert post("undo") == {"counts": {"judged": 0, "relevant": 0}}
    assert len(path.read_bytes().splitlines()) == 4 and len(Verdicts(path)) == 0


def test_every_hostile_text_arrives_as_it_was(tmp_path):
    rows_of(TEXTS).save_to_disk(tmp_path / "mined")
    saved = load_from_disk(tmp_path / "mined")
    with running(tmp_path / "mined", tmp_path / "v.jsonl") as url:
        units = []
        for start in range(0, len(TEXTS), 50):
            status, headers, content = asked(url, f"rows?order={quote('as mined')}&start={start}&count=50")
            assert status == 200 and headers["Content-Type"].startswith("application/json")
            units += json.loads(content)["units"]
        for row, unit in zip(saved, units, strict=True):
            assert unit["query"] == row["query"]
            for side in ("positive", "negatives"):
                shown = ["".join(text for text, _ in each["runs"]) for each in unit[f"{side.rstrip('s')}s"]]
                assert shown == row[side]
            assert [each["source"] for each in unit["negatives"]] == row["negative_sources"]
        body = {"row": 3, "place": 0, "score": 1}
        assert asked(url, "verdict", method="POST", body=body)[0] == 200
        (said,) = Verdicts(tmp_path / "v.jsonl")
        assert (said.query, said.document) == (saved[3]["query"], saved[3]["negatives"][0])


def test_why_a_negative_is_there(url):
    unit = json.loads(asked(url, f"rows?order={quote('as mined')}&start=0")[2])["units"][0]
    steps = {each["step"]: each["count"] for each in unit["funnel"]}
    assert next(iter(steps)) == "retrieved" and list(steps)[-1] == "kept" and "too_similar" in steps
    assert steps["retrieved"] == sum(steps.values()) - steps["retrieved"]
    for unit in json.loads(asked(url, f"rows?order={quote('as mined')}&start=0&count=36")[2])["units"]:
        best = max(each["score"] for each in unit["positives"])
        for each in unit["negatives"]:
            assert each["rank"] >= 0 and each["source"] == "bm25"
            assert each["ratio"] == (pytest.approx(each["score"] / best) if best else None)


def test_a_reopened_page_goes_on_where_nobody_judged(tmp_path):
    rows_of(["a", "b", "c"]).save_to_disk(tmp_path / "mined")
    for judged in range(3):
        with running(tmp_path / "mined", tmp_path / "v.jsonl") as url:
            assert json.loads(asked(url, f"rows?order={quote('as mined')}&open=1")[2])["start"] == judged
            for place in range(2):
                asked(url, "verdict", method="POST", body={"row": judged, "place": place, "score": place})
            end = json.loads(asked(url, f"rows?order={quote('as mined')}&open=1&start={judged}")[2])
            assert (end["start"], len(end["units"])) == (judged + 1, judged < 2)
    assert len(Verdicts(tmp_path / "v.jsonl")) == 6


def test_rows_of_other_layouts_need_no_scores(tmp_path):
    rows = {"query": ["a", "b"], "positive": ["x", "y"], "negatives": [["one"], []]}
    Dataset.from_dict(rows).save_to_disk(tmp_path / "mined")
    with running(tmp_path / "mined", tmp_path / "v.jsonl") as url:
        units = json.loads(asked(url, f"{SUSPICIOUS}&count=5")[2])["units"]
        assert [unit["row"] for unit in units] == [0, 1] and units[0]["funnel"] == []
        assert units[0]["positives"] == [{"runs": [["x", ""]], "score": None}]


def test_a_hundred_thousand_rows_open(tmp_path):
    some = rows_of([f"some words {number}" for number in range(1000)])
    concatenate_datasets([some] * 100).save_to_disk(tmp_path / "mined")
    with running(tmp_path / "mined", tmp_path / "v.jsonl") as url:
        for order, total in (("most suspicious first", 100_000), ("as mined", 100_000), ("random sample", 2_000)):
            found = json.loads(asked(url, f"rows?order={quote(order)}")[2])
            assert found["total"] == total and len(found["units"]) == 1


def test_what_cannot_be_reviewed(tmp_path):
    with pytest.raises(ColumnError, match="A review needs 'negatives', and the rows have 'query'"):
        review(Dataset.from_dict({"query": ["a"]}), tmp_path / "v.jsonl")
    with pytest.raises(DataError, match="0 rows"):
        review(rows_of(["a"]).select([]), tmp_path / "v.jsonl")
    with pytest.raises(ConfigError, match=r"review\(port=70000\)"):
        review(rows_of(["a"]), tmp_path / "v.jsonl", port=70000)
    assert not list(tmp_path.iterdir())
