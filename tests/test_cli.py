import gzip
import os
import re
import subprocess
import sys

import pytest
from datasets import Dataset, load_from_disk

from hf_hardneg.cli import main
from hf_hardneg.demo import _inspected, standard_library
from tests.worlds import world

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_mine(suffix, tmp_path, capsys):
    for name, data in zip(("pairs", "corpus"), world(1), strict=True):
        (data.to_parquet if suffix == "parquet" else data.to_json)(tmp_path / f"{name}.{suffix}")
    files = [f"--{name}={tmp_path}/{name}.{suffix}" for name in ("pairs", "corpus")]
    status = main(["mine", *files, "--strategy=bm25", "--num-negatives=3", f"--out={tmp_path}/out"])
    shown = capsys.readouterr().out
    assert status == 0
    assert "negative   " in shown and "kept" in shown and f"Written to {tmp_path}/out" in shown
    assert len(load_from_disk(str(tmp_path / "out"))["negatives"][0]) == 3
    main(["mine", *files, "--strategy=bm25", f"--out={tmp_path}/triplets", "--format=triplet"])
    assert load_from_disk(str(tmp_path / "triplets")).column_names == ["query", "positive", "negative"]


def saved(folder):
    for name, data in zip(("pairs", "corpus"), world(1), strict=True):
        data.to_parquet(folder / f"{name}.parquet")
    return [f"--{name}={folder}/{name}.parquet" for name in ("pairs", "corpus")]


def run(capsys, *arguments):
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_an_index_is_built_once_and_mining_reuses_it(tmp_path, capsys):
    pairs, corpus = saved(tmp_path)
    where = f"--cache-dir={tmp_path}/indexes"
    built = run(capsys, "index", corpus, where)
    folder = built.splitlines()[1]
    assert "bm25 index of 60 documents, built in" in built and folder in str(list((tmp_path / "indexes").iterdir()))
    assert run(capsys, "index", corpus, where).splitlines()[:2] == ["bm25 index of 60 documents, reused", folder]
    run(capsys, "mine", pairs, corpus, where, "--strategy=bm25", f"--out={tmp_path}/out")
    kinds = [line.split()[0] for line in run(capsys, "cache", "ls", where).splitlines()[:-1]]
    assert sorted(kinds) == ["bm25", "candidates", "keys", "negatives", "positives", "positives", "signals"]


def test_a_dense_index_from_a_column_of_vectors(tmp_path, capsys):
    _, corpus = world(1)
    vectors = corpus.add_column("v", [[float(row), 1.0] for row in range(len(corpus))])
    vectors.to_parquet(tmp_path / "corpus.parquet")
    given = ["--kind=dense", f"--corpus={tmp_path}/corpus.parquet", f"--cache-dir={tmp_path}/indexes"]
    assert "dense index of 60 documents, built in" in run(capsys, "index", *given, "--columns", "vector=v")
    assert main(["index", *given]) == 2
    assert "Pass encoder=" in capsys.readouterr().err


def test_names_of_training_strategies_are_refused(tmp_path, capsys):
    assert main(["mine", *saved(tmp_path), "--strategy=ance", f"--out={tmp_path}/out"]) == 2
    assert "Use 'ance_offline', which comes nearest" in capsys.readouterr().err


def test_plan(tmp_path, capsys):
    files = saved(tmp_path)
    shown = run(capsys, "plan", *files, "--strategy=bm25", "--num-proc=2", f"--cache-dir={tmp_path}/indexes")
    assert "60 documents, 36 pairs, 2 processes: about" in shown and "cheaper:" in shown
    assert not list((tmp_path / "indexes").glob("bm25-*"))


def test_the_cache_is_listed_and_pruned(tmp_path, capsys):
    where = f"--cache-dir={tmp_path}/indexes"
    assert "0 B in 0 directories" in run(capsys, "cache", "ls", where)
    run(capsys, "mine", *saved(tmp_path), where, "--strategy=bm25", f"--out={tmp_path}/out")
    listed = run(capsys, "cache", "ls", where)
    lines = {line.split()[0]: line for line in listed.splitlines()[:-1]}
    assert lines.keys() >= {"keys", "positives", "bm25"}
    assert re.fullmatch(r"bm25 +\d+ kB +.+ ago +corpus: corpus.parquet, 60 documents", lines["bm25"])
    for kind in ("positives", "candidates", "negatives"):
        assert lines[kind].endswith("corpus: corpus.parquet, 60 documents; pairs: pairs.parquet, 36 rows")
    assert not re.search("[0-9a-f]{32}", listed)
    assert len(re.findall("bm25-[0-9a-f]{32}", run(capsys, "cache", "ls", "--verbose", where))) == 1
    assert "freed 0 B" in run(capsys, "cache", "prune", where)
    assert "would free" in run(capsys, "cache", "prune", where, "--all", "--dry-run")
    assert "freed 0 B" in run(capsys, "cache", "prune", where, "--older-than=1")
    assert run(capsys, "cache", "prune", where, "--kind", "bm25").startswith("bm25 ")
    assert not list((tmp_path / "indexes").glob("bm25-*"))
    run(capsys, "cache", "prune", where, "--all")
    assert "0 B in 0 directories" in run(capsys, "cache", "ls", where)


def test_what_was_wrong_is_said_without_a_traceback(tmp_path, capsys):
    Dataset.from_dict({"q": ["x"]}).to_parquet(tmp_path / "pairs.parquet")
    Dataset.from_dict({"text": ["x"]}).to_parquet(tmp_path / "corpus.parquet")
    files = [f"--{name}={tmp_path}/{name}.parquet" for name in ("pairs", "corpus")]
    assert main(["mine", *files, "--strategy=bm25", f"--out={tmp_path}/out"]) == 2
    assert capsys.readouterr().err.startswith("error: The columns of the pairs are 'q', and none is called as")
    assert main(["mine", *files, "--strategy=bm26", f"--out={tmp_path}/out"]) == 2
    assert "Did you mean 'bm25'" in capsys.readouterr().err


def test_demo(tmp_path, capsys):
    assert main(["demo", f"--out={tmp_path}/mined"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\nquery      ") == 3 and "Next, " in shown
    assert len(load_from_disk(str(tmp_path / "mined"))) > 2000


def test_the_standard_library_is_the_same_where_hooks_are_replaced_as_the_command_line_does(monkeypatch):
    before = list(_inspected(sys, "sys"))
    for hook in ("unraisablehook", "excepthook", "displayhook"):
        monkeypatch.setattr(sys, hook, lambda *_: None)
    assert list(_inspected(sys, "sys")) == before and "sys.unraisablehook" in {name for name, *_ in before}


@pytest.mark.slow
def test_the_standard_library_is_the_same_in_every_process():
    code = (
        "from hf_hardneg.demo import standard_library; from hf_hardneg.corpus.documents import open_corpus; "
        "pairs, corpus = standard_library(); print(open_corpus(corpus).digest, hash(str(pairs[:])) and pairs[7])"
    )
    outputs = {
        subprocess.check_output(
            [sys.executable, "-W", "ignore", "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, text=True
        )
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


@pytest.mark.slow
def test_the_standard_library_is_a_fair_retrieval_set():
    pairs, corpus = standard_library()
    texts = dict(zip(corpus["_id"], corpus["text"], strict=True))
    assert len(texts) == len(corpus) > 6000 and len(pairs) > 2000
    assert len(set(pairs["query"])) == len(pairs)
    assert not any(" at 0x" in text.partition("\n")[0] for text in texts.values())
    for row in pairs:
        assert row["positive_ids"] and all(
            row["query"].lower() not in texts[one].lower() for one in row["positive_ids"]
        )


def test_it_says_what_a_name_resolved_to_and_leaves_safeguards_out_if_asked(tmp_path, capsys):
    arguments = ["mine", *saved(tmp_path), "--strategy=bm25+rank_zone", f"--cache-dir={tmp_path}/indexes"]
    shown = run(capsys, *arguments, f"--out={tmp_path}/safe")
    assert "\nbm25+rank_zone is Strategy(retrievers=(BM25(),), filters=(NearQuery(),TooSi" in shown
    shown = run(capsys, *arguments, "--no-safeguards", f"--out={tmp_path}/all")
    assert "\nbm25+rank_zone is Strategy(retrievers=(BM25(),), filters=(), sampler=RankZone())" in shown


def test_arguments_are_checked_before_anything_is_read(tmp_path, capsys):
    nowhere = [f"--{name}={tmp_path}/{name}.parquet" for name in ("pairs", "corpus")]
    (tmp_path / "file").write_text("a file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("a note")
    for arguments, said in (
        (["--strategy=bm25", "--format=triplets", f"--out={tmp_path}/out"], "Did you mean 'triplet'"),
        (["--strategy=bm25", "--format=pylate-kd", f"--out={tmp_path}/out"], "Mine with cross_encoder="),
        (["--strategy=bm26", f"--out={tmp_path}/out"], "Did you mean 'bm25'"),
        (["--strategy=bm25", f"--out={tmp_path}/full"], "give a new folder, or --overwrite"),
        (["--strategy=bm25", f"--out={tmp_path}/full", "--overwrite"], "something else than a saved dataset"),
        (["--strategy=bm25", f"--out={tmp_path}/file/out"], "file is no folder that you may write to"),
    ):
        assert main(["mine", *nowhere, *arguments]) == 2
        assert said in capsys.readouterr().err
    assert main(["demo", "--format=triplets", f"--out={tmp_path}/out"]) == 2
    assert main(["audit", f"{tmp_path}/nothing.parquet", f"--html={tmp_path}/file/page.html"]) == 2
    assert "--html" in capsys.readouterr().err
    assert (tmp_path / "full" / "note").read_text() == "a note"


def test_a_saved_dataset_is_replaced_only_if_asked(tmp_path, capsys):
    arguments = [
        "mine",
        "--strategy=bm25",
        *saved(tmp_path),
        "--strategy=bm25",
        f"--cache-dir={tmp_path}/indexes",
        f"--out={tmp_path}/out",
    ]
    run(capsys, *arguments)
    assert main([*arguments, "--num-negatives=2"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert {len(row) for row in load_from_disk(str(tmp_path / "out"))["negatives"]} == {4}
    run(capsys, *arguments, "--num-negatives=2", "--overwrite")
    assert {len(row) for row in load_from_disk(str(tmp_path / "out"))["negatives"]} == {2}
    assert not list(tmp_path.glob("*.partial"))


def test_ids_of_packed_csv_and_of_tsv_keep_their_zeros(tmp_path, capsys):
    texts = ["Basalt is a dark volcanic rock.", "Granite is pale.", "Pumice is a light volcanic rock."]
    rows = "".join(f"{number},{text}\n" for number, text in zip(("007", "010", "000"), texts, strict=True))
    (tmp_path / "corpus.csv.gz").write_bytes(gzip.compress(f"docid,text\n{rows}".encode()))
    (tmp_path / "pairs.tsv").write_text("query\tpositive_ids\ndark volcanic rock\t007\n")
    job = ["mine", f"--pairs={tmp_path}/pairs.tsv", "--strategy=bm25", f"--out={tmp_path}/mined"]
    assert main([*job, f"--corpus={tmp_path}/corpus.csv.gz", f"--cache-dir={tmp_path}/own"]) == 0
    assert "ids of documents: docid\n" in capsys.readouterr().out
    mined = load_from_disk(f"{tmp_path}/mined")[0]
    assert (mined["positive"], mined["negative_ids"]) == (texts[:1], ["000"])
    (tmp_path / "unnamed.csv").write_text(f"name,text\n{rows}")
    assert main([*job, "--overwrite", f"--corpus={tmp_path}/unnamed.csv"]) == 2
    assert "none of the columns of the corpus, 'name', 'text', is called as id" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([], "Head the text"),
        (["--columns", "text=text"], "the text"),
        (["--columns", "text=text", "text=title"], "the text Head"),
        (["--columns", "text=text", "--columns", "text=title"], "the text Head"),
        (["--columns=text=title", "--columns=text=text"], "Head the text"),
    ],
)
def test_text_columns_add_up(given, text, tmp_path):
    corpus = {"_id": ["a", "b"], "title": ["Head", "Tail"], "text": ["the text", "other"]}
    Dataset.from_dict(corpus).to_parquet(tmp_path / "corpus.parquet")
    Dataset.from_dict({"query": ["q"], "positive_ids": ["a"]}).to_parquet(tmp_path / "pairs.parquet")
    files = [f"--{name}={tmp_path}/{name}.parquet" for name in ("pairs", "corpus")]
    assert main(["mine", *files, "--strategy=random", f"--out={tmp_path}/out", *given]) == 0
    assert load_from_disk(str(tmp_path / "out"))["positive"] == [[text]]


def test_warnings_are_printed_like_errors(tmp_path):
    """In a process of its own, where no test turns warnings into errors."""
    for name, rows in zip(("pairs", "corpus"), world(1), strict=True):
        rows.map(lambda row: {"text": f"never {row['text']}"} if "text" in row else row).to_parquet(
            tmp_path / f"{name}.parquet"
        )
    command = [
        sys.executable,
        "-m",
        "hf_hardneg.cli",
        "mine",
        "--strategy=bm25",
        f"--pairs={tmp_path}/pairs.parquet",
        f"--corpus={tmp_path}/corpus.parquet",
        f"--out={tmp_path}/out",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert lines and "HardNegWarning" not in done.stderr and ".py:" not in done.stderr
