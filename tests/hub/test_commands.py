"""`hf-hardneg push` and `reproduce`."""

import warnings

import pytest
from datasets import load_dataset, load_from_disk

from hf_hardneg.audits.verdict_log import HumanVerdict
from hf_hardneg.cli import main
from tests.hub.conftest import ADA
from tests.worlds import world


@pytest.fixture
def run(hub, monkeypatch, capsys):
    """A command by somebody who is logged in; its status and what it said."""
    monkeypatch.setenv("HF_TOKEN", ADA)

    def started(*arguments):
        status = main([str(one) for one in arguments])
        said = capsys.readouterr()
        return status, said.out + said.err

    return started


def test_mine_push_and_reproduce(hub, name, run, tmp_path):
    for kind, rows in zip(("pairs", "corpus"), world(1), strict=True):
        rows.rename_columns({"query": "anchor"} if kind == "pairs" else {}).to_parquet(tmp_path / f"{kind}.parquet")
    pairs, corpus = f"--pairs={tmp_path}/pairs.parquet", f"--corpus={tmp_path}/corpus.parquet"
    out, where = tmp_path / "mined", f"--cache-dir={tmp_path}/indexes"
    run("mine", pairs, corpus, where, "--columns=query=anchor", "--strategy=bm25", "--num-negatives=2", f"--out={out}")
    pushing = ("push", f"--mined={out}", f"--repo={name}", "--license=mit", "--private")
    status, said = run(*pushing, "--config", "list", "triplet-2", "labeled-pair")
    assert status == 0 and f"list, triplet-2, labeled-pair of {name}: http" in said and "/commit/" in said
    assert hub.repos[name].private and ADA not in said
    assert load_dataset(name, "list", split="train", token=ADA).to_list() == load_from_disk(str(out)).to_list()
    assert load_dataset(name, "triplet-2", split="train").column_names[0] == "anchor"
    status, said = run("reproduce", name)
    assert status == 2 and "Give corpus=" in said
    status, said = run("reproduce", name, corpus, f"--cache-dir={tmp_path}/fresh")
    assert status == 0 and "all 36 rows are identical" in said
    world(2)[1].to_parquet(tmp_path / "corpus.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, said = run("reproduce", name, corpus, pairs, where)
    assert "warning: 0% of 36 positives" in said
    assert status == 1 and "rows differ" in said and "\n  corpus: " in said
    assert "is not what was mined" in run(*pushing, corpus)[1]
    world(1)[1].to_parquet(tmp_path / "corpus.parquet")
    assert run(*pushing, corpus, "--create-pr", "--message=Add the corpus")[0] == 0
    assert hub.repos[name].history("refs/pr/1")[0] == "Add the corpus"


def test_what_was_wrong_is_said_without_a_traceback(name, run, tmp_path):
    status, said = run("push", f"--mined={tmp_path}", f"--repo={name}")
    assert status == 2 and said.startswith(f"error: {tmp_path} cannot be read") and "Give a folder" in said
    status, said = run("reproduce", name)
    assert status == 2 and said.startswith("error: Cannot read the Hub dataset") and ADA not in said


def test_what_a_review_wrote_is_on_the_card(hub, name, run, tmp_path):
    for kind, rows in zip(("pairs", "corpus"), world(1), strict=True):
        rows.to_parquet(tmp_path / f"{kind}.parquet")
    out = tmp_path / "mined"
    files = [f"--pairs={tmp_path}/pairs.parquet", f"--corpus={tmp_path}/corpus.parquet"]
    run("mine", *files, "--strategy=bm25", "--num-negatives=2", f"--out={out}", f"--cache-dir={tmp_path}/indexes")
    mined = load_from_disk(str(out))
    query, document = mined["query"][0], mined["negatives"][0][0]
    judged = HumanVerdict(query_id="0", corpus_id=None, score=1, query=query, document=document, row=0, place=0)
    verdicts = tmp_path / "said.jsonl"
    verdicts.write_bytes(judged.line())
    assert run("push", f"--mined={out}", f"--repo={name}", f"--verdicts={tmp_path}/none.jsonl")[0] == 2
    status, said = run("push", f"--mined={out}", f"--repo={name}", f"--verdicts={verdicts}")
    assert status == 0, said
    card = hub.repos[name].files("main")["README.md"].content.decode()
    times = sum(row["query"] == query and document in row["negatives"] for row in mined)
    assert f"People judged {times} of 72 negatives, and took {times} for relevant" in card
