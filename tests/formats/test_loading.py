"""Values of Python, streams, databases and the Hub as pairs and corpora; and what is refused before any work."""

import sqlite3

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDatasetDict, Value
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from hf_hardneg import HardNegatives, audit, mine, plan, recipe_of, sweep
from hf_hardneg.errors import ColumnError, ConfigError, DataError, HardNegWarning, MissingExtraError, UnknownNameError
from hf_hardneg.formats.inputs import check_hub
from hf_hardneg.formats.loading import load_corpus, load_pairs, opened

TEXTS = {
    "007": "the sky is blue",
    "008": "the sea is salty",
    "009": "sky lanterns are paper",
    "010": "sea salt is white",
}
ROWS = [
    {"query": "why is the sky blue", "positive": "the sky is blue"},
    {"query": "why is the sea salty", "positive": "the sea is salty"},
]
IDS = [
    {"query": "why is the sky blue", "positive_ids": ["007"]},
    {"query": "why is the sea salty", "positive_ids": ["008"]},
]
QUERIES = {"1": "why is the sky blue", "2": "why is the sea salty"}
QRELS = {"1": {"007": 1, "009": 0}, "2": {"008": 2}}
BEIR = {"corpus": {key: {"title": "", "text": text} for key, text in TEXTS.items()}, "queries": QUERIES, "qrels": QRELS}


def negatives(mined):
    return {row["query"]: set(row["negatives"]) for row in mined}


EXPECTED = {"why is the sky blue": {TEXTS["009"]}, "why is the sea salty": {TEXTS["010"]}}

CORPORA = {
    "texts": list(TEXTS.values()),
    "tuple": tuple(TEXTS.values()),
    "array": np.array(list(TEXTS.values())),
    "series": pd.Series(list(TEXTS.values())),
    "by id": TEXTS,
    "rows by id": {key: {"title": "", "text": text} for key, text in TEXTS.items()},
    "rows": [{"docid": key, "contents": text} for key, text in TEXTS.items()],
    "columns": {"id": list(TEXTS), "text": list(TEXTS.values())},
    "pandas": pd.DataFrame({"ID": list(TEXTS), "Passage": list(TEXTS.values())}),
    "pandas with an index of ids": pd.DataFrame({"text": list(TEXTS.values())}, index=list(TEXTS)),
    "pandas with a named index": pd.DataFrame(
        {"text": list(TEXTS.values())}, index=pd.Index(list(TEXTS), name="docno")
    ),
    "polars": pl.DataFrame({"id": list(TEXTS), "text": list(TEXTS.values())}),
    "lazy polars": pl.LazyFrame({"id": list(TEXTS), "text": list(TEXTS.values())}),
    "arrow": pa.table({"id": list(TEXTS), "text": list(TEXTS.values())}),
    "batch": pa.RecordBatch.from_pydict({"id": list(TEXTS), "text": list(TEXTS.values())}),
    "splits": DatasetDict(
        {
            "queries": Dataset.from_list([{"id": "q", "text": "x"}]),
            "corpus": Dataset.from_list([{"id": key, "text": text} for key, text in TEXTS.items()]),
        }
    ),
    "stream": Dataset.from_list([{"id": key, "text": text} for key, text in TEXTS.items()]).to_iterable_dataset(),
    "set": BEIR,
}


@pytest.mark.slow
@pytest.mark.parametrize("form", CORPORA)
def test_a_corpus_in_every_form(form):
    assert negatives(mine(ROWS, CORPORA[form], safeguards=False)) == EXPECTED
    miner = HardNegatives(CORPORA[form], safeguards=False, known_positives=[Dataset.from_list(ROWS)])
    assert negatives(Dataset.from_list(ROWS).map(miner, batched=True)) == EXPECTED


PAIRS = {
    "rows": ROWS,
    "tuples": [tuple(row.values()) for row in ROWS],
    "mapping": {row["query"]: row["positive"] for row in ROWS},
    "mapping to lists": {row["query"]: [row["positive"]] for row in ROWS},
    "columns": {name: [row[name] for row in ROWS] for name in ROWS[0]},
    "pandas": pd.DataFrame(ROWS)[lambda rows: rows["query"] != ""],
    "polars": pl.DataFrame(ROWS),
    "arrow": pa.Table.from_pylist(ROWS),
    "stream": Dataset.from_list(ROWS).to_iterable_dataset(),
    "set": BEIR,
}


@pytest.mark.slow
@pytest.mark.parametrize("form", PAIRS)
def test_pairs_in_every_form(form):
    mined = mine(PAIRS[form], TEXTS, safeguards=False)
    assert negatives(mined) == EXPECTED and isinstance(mined, Dataset)
    assert "__index_level_0__" not in mined.column_names


def test_splits_stay_splits_and_streams_of_splits_are_read_once():
    splits = {"train": Dataset.from_list(ROWS[:1]), "test": Dataset.from_list(ROWS[1:])}
    for given in (
        DatasetDict(splits),
        IterableDatasetDict({name: each.to_iterable_dataset() for name, each in splits.items()}),
    ):
        mined = mine(given, TEXTS, safeguards=False)
        assert list(mined) == ["train", "test"] and negatives(mined["test"]) == {ROWS[1]["query"]: {TEXTS["010"]}}


def test_a_stream_is_in_the_cache_once_and_keeps_its_classes(tmp_path):
    features = Features({"docid": ClassLabel(names=list(TEXTS)), "text": Value("string")})
    rows = Dataset.from_dict({"docid": list(TEXTS), "text": list(TEXTS.values())}, features=features)
    read = 0

    def counted(row):
        nonlocal read
        read += 1
        return row

    for _ in range(2):
        stream = rows.to_iterable_dataset().map(counted, features=features)
        mined = mine(IDS, stream, safeguards=False, cache_dir=tmp_path)
        assert mined["negative_ids"][:] == [["009"], ["010"]]
    assert read == 2 * len(rows) and len([*tmp_path.glob("corpus-*")]) == 1


def test_without_a_corpus_the_positives_are_searched():
    rows = [
        {"query": "sky", "positive": "the sky is blue"},
        {"query": "sky lanterns", "positive": "lanterns in the sky"},
    ]
    for mined in (mine(rows, safeguards=False), mine(rows, "bm25", safeguards=False), mine(rows, corpus="bm25+top")):
        assert mined[0]["negatives"] == ["lanterns in the sky"] and mined[1]["negatives"] == ["the sky is blue"]
    named = [{**row, "positive_ids": str(number)} for number, row in enumerate(rows)]
    assert mine(named, safeguards=False)["negative_ids"][:] == [["1"], ["0"]]
    assert plan(rows).documents == 2 and len(sweep(rows, strategy="bm25", rank_window=[0, 1])) == 2


def test_what_was_recognised_is_in_the_recipe_and_said(capsys, request):
    if are_progress_bars_disabled():
        enable_progress_bars()
        request.addfinalizer(disable_progress_bars)
    mined = mine(
        pd.DataFrame({"Question": list(QUERIES.values()), "Answer": ["the sky is blue", "the sea is salty"]}), TEXTS
    )
    assert recipe_of(mined).columns["query"] == "Question" and recipe_of(mined).columns["positive"] == "Answer"
    said = "a frame: 2 pairs, query 'Question', positive 'Answer' · a mapping: 4 documents, text 'text', id '_id'\n"
    assert said in capsys.readouterr().err
    mine(Dataset.from_list(ROWS), Dataset.from_list([{"_id": "a", "text": "the sky is blue"}] * 1))
    assert "pairs" not in capsys.readouterr().err


def test_an_audit_takes_rows_and_documents_in_any_form(tmp_path):
    mined = mine(ROWS, TEXTS, safeguards=False)
    mined.to_json(tmp_path / "mined.jsonl")
    for rows in (mined, mined.to_list(), mined.to_pandas(), tmp_path / "mined.jsonl"):
        assert audit(rows, TEXTS).rows == 2 and "unknown_id" not in audit(rows, TEXTS).counts


def test_empty_cells_leave_their_rows_out_with_a_warning(tmp_path):
    (tmp_path / "pairs.csv").write_text(
        "question,answer\nwhy is the sky blue,the sky is blue\nwhat,\n,the sea is salty\n"
    )
    (tmp_path / "docs.csv").write_text("docid,text\n007,the sky is blue\n008,\n009,sky lanterns are paper\n")
    with pytest.warns(
        HardNegWarning, match="2 of 3 rows of .*are left out, since 'question' or 'answer' is empty.*row 1"
    ):
        pairs = load_pairs(tmp_path / "pairs.csv")
    assert pairs.rows["question"][:] == ["why is the sky blue"]
    with pytest.warns(HardNegWarning, match="1 of 3 rows of corpus are left out, since 'text' is empty in them"):
        assert load_corpus(tmp_path / "docs.csv").rows["docid"][:] == ["007", "009"]


def test_a_database_is_read_anew_each_time(tmp_path):
    url = f"sqlite:///{tmp_path / 'base.db'}?table=docs"
    base = sqlite3.connect(tmp_path / "base.db")
    base.execute("create table docs (id text, text text)")
    for key, text in list(TEXTS.items())[:2]:
        base.execute("insert into docs values (?, ?)", (key, text))
        base.commit()
        assert load_corpus(url).rows["id"][-1] == key
    base.close()


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        ("sqlite:///{0}/none.db?table=docs", DataError, "There is no file .*none.db.*Give the path of one"),
        ("sqlite:///{0}/base.db?table=none", DataError, "cannot be read .*no such table: none.*Give the URL"),
        ("sqlite:///{0}/base.db?query=SELECT nothing", DataError, "syntax error.*Give the URL"),
        (
            "postgresql://ada:secret@h/base?table=docs",
            MissingExtraError,
            r"\[masked\]@h.*'sqlalchemy'.*hf-hardneg\[sql\]",
        ),
        (
            "{0}/table.lance",
            MissingExtraError,
            r"table.lance, a table of Lance, needs .*pip install 'hf-hardneg\[lance\]'",
        ),
        ("{0}/run.trec", DataError, "cannot be read|has the suffix '.trec'"),
        ("{0}/none-*.csv", DataError, "holds no file that can be read"),
        ("{0}/mixed", DataError, "files of several formats, such as .*Give a glob"),
    ],
)
def test_places_that_cannot_be_read(source, error, text, tmp_path):
    sqlite3.connect(tmp_path / "base.db").close()
    (tmp_path / "table.lance").mkdir()
    (tmp_path / "run.trec").write_text("1 Q0 007 1 9.5 x\n")
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "a.csv").write_text("id,text\n1,x\n")
    (tmp_path / "mixed" / "b.jsonl").write_text('{"id": "1", "text": "x"}\n')
    with pytest.raises(error, match=text):
        load_corpus(source.format(tmp_path))


def test_a_name_that_nobody_has_is_said_with_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faq.csv").write_text("asked,reply,team\nwhy,because,a\n")
    for name in ("faq.cvs", "./faq.cvs", f"{tmp_path}/faq.cvs"):
        with pytest.raises(DataError, match="There is no file or folder .*Did you mean .*faq.csv"):
            load_pairs(name)
    for told in ({"query": "aksed", "positive": "reply"}, {"query": "asked", "positive": "aksed"}):
        with pytest.raises(ColumnError, match="no column 'aksed'; it has 'asked', 'reply', 'team'"):
            load_pairs("faq.csv", told)
    assert load_pairs("faq.csv", {"query": "asked", "positive": "reply"}).words == (
        "faq.csv: 1 pairs, query 'asked', positive 'reply'"
    )


@pytest.mark.parametrize(
    ("pairs", "error", "text"),
    [
        (
            [{"a": "x", "b": "y", "c": "z"}],
            ColumnError,
            "none is called as a query is. 'a', 'b', 'c' may hold it.*columns=",
        ),
        (
            [{"question": "x", "b": "y", "c": "z"}],
            ColumnError,
            "none is called as the positives is. 'b', 'c' may hold it",
        ),
        ([{"_id": "1", "title": "x", "text": "y"}], ColumnError, "those of documents: none holds queries"),
        ([{"premise": "x", "hypothesis": "y", "label": 0}], DataError, "numbers 0 without names; .* either may be"),
        ([{"sentence1": "x", "sentence2": "y", "score": 0.7}], ConfigError, "are scores, which do not say"),
        ([{"anchor": "x", "answer": "y", "label": 0}], DataError, "No row is relevant by its 'label'"),
        ({"queries": QUERIES, "qrels": {"9": ["007"]}, "corpus": TEXTS}, DataError, "1 query ids .* such as '9'"),
        ({"corpus": TEXTS, "qrels": QRELS}, DataError, "judgements and no queries"),
        ([1, 2], ConfigError, "begins with a int; all are to be mappings, or tuples"),
        ([], DataError, "is an empty list"),
        ({}, DataError, "is an empty mapping"),
        (["why"], ConfigError, "begins with a str"),
        ({"why": 5}, ConfigError, "entry 'why': int"),
        (IDS, ConfigError, "name their positives by ids .* no corpus"),
    ],
)
def test_what_is_ambiguous_or_no_pairs_is_refused_by_name(pairs, error, text):
    with pytest.raises(error, match=text):
        opened("mine", pairs, None, "bm25", {})


@pytest.mark.parametrize(
    ("corpus", "strategy", "error", "text"),
    [
        ("bm52", "bm25", UnknownNameError, "corpus='bm52'.: there is no such file or folder.*Did you mean 'bm25'"),
        ("bm25", "dense", ConfigError, "got two strategies, 'bm25' in the place of the corpus and 'dense'"),
        ([{"a": "x", "b": "y"}], "bm25", ColumnError, "several may hold its texts: 'a', 'b'. Name one with columns="),
        ([{"title": "x", "sku": "y"}], "bm25", ColumnError, "several may hold its texts: 'title', 'sku'"),
        ("nowhere/at/all", "bm25", DataError, "There is no file or folder nowhere/at/all"),
    ],
)
def test_what_is_no_corpus(corpus, strategy, error, text):
    with pytest.raises(error, match=text):
        opened("mine", ROWS, corpus, strategy, {})


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ("frage,antwort\nwarum ist der himmel so blau,weil die luft blaues licht streut\n", ["frage", "antwort"]),
        ("d1,kurz\nd2,noch ein text\n", ["query", "positive"]),
        ("why is it so,since it always was\nhow come,nobody knows it\n", ["query", "positive"]),
        ("question;answer\nwhy;so\n", ["question", "answer"]),
    ],
)
def test_the_first_line_of_a_table(lines, names, tmp_path):
    (tmp_path / "x.csv").write_text(lines)
    assert load_pairs(tmp_path / "x.csv").rows.column_names == names


def test_a_first_line_that_may_be_either_is_refused_unless_its_names_are_said(tmp_path):
    (tmp_path / "x.csv").write_text("cat,feline\ndog,canine\ncow,bovine\n")
    with pytest.raises(DataError, match="The first line of .*x.csv, 'cat', 'feline', may be names of columns or a row"):
        load_pairs(tmp_path / "x.csv")
    rows = load_pairs(tmp_path / "x.csv", {"query": "cat", "positive": "feline"}).rows
    assert rows.to_dict() == {"cat": ["dog", "cow"], "feline": ["canine", "bovine"]}


def test_an_answer_beside_its_passage_is_no_positive():
    rows = [{"question": "x", "answer": "y", "passage": "y in a passage"}]
    assert load_pairs(rows).columns == {"query": "question", "positive": "passage"}


def test_what_the_user_says_goes_first():
    rows = [{"question": "x", "answer": "y", "passage": "z"}]
    assert load_pairs(rows, {"positive": "answer"}).columns == {"positive": "answer", "query": "question"}
    assert load_corpus([{"body": "x", "text": "y", "key": "1"}], {"text": "body", "id": "key"}).columns == {
        "text": "body",
        "id": "key",
    }


@pytest.mark.parametrize("grade", ["relevance", "grade", "Judgment", "relevance_score"])
def test_a_grade_of_0_is_no_positive_whatever_it_is_called(grade, tmp_path):
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text("".join(f'{{"_id": "{key}", "text": "{key} sky"}}\n' for key in "abc"))
    (folder / "queries.jsonl").write_text('{"_id": "1", "text": "why sky"}\n')
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\t{grade}\n1\ta\t1\n1\tb\t0\n")
    assert load_pairs(folder).rows["positive_ids"][:] == [["a"]]
    judged = [{"query-id": "1", "corpus-id": "a", grade: 1}, {"query-id": "1", "corpus-id": "b", grade: 0}]
    tables = {"corpus": {"a": "sky", "b": "sea"}, "queries": {"1": "why sky"}, "qrels": judged}
    assert load_pairs(tables).rows["positive_ids"][:] == [["a"]]


def test_what_may_be_a_grade_under_another_name_is_asked_for(tmp_path):
    judged = [{"query-id": "1", "corpus-id": "a", "stars": 0}]
    tables = {"corpus": {"a": "sky"}, "queries": {"1": "why sky"}, "qrels": judged}
    with pytest.raises(DataError, match="'stars', which may be their grade, and no 'score'"):
        load_pairs(tables)


def test_a_query_id_with_two_texts_is_refused():
    queries = [{"_id": "1", "text": "why"}, {"_id": "1", "text": "how"}]
    tables = {"corpus": {"a": "sky"}, "queries": queries, "qrels": {"1": ["a"]}}
    with pytest.raises(DataError, match="'1' has two texts, 'why' and 'how'"):
        load_pairs(tables)


def test_a_label_that_is_not_understood_is_warned_of_and_one_that_is_leaves_rows_out():
    rows = [{"query": "why", "positive": "sky", "label": "y"}, {"query": "how", "positive": "sea", "label": "partly"}]
    with pytest.warns(HardNegWarning, match="'label' beside 'positive' is not read as relevance"):
        assert len(load_pairs(rows).rows) == 2
    rows = [{"query": "why", "positive": "sky", "Label": 1}, {"query": "how", "positive": "sea", "Label": 0}]
    assert load_pairs(rows).rows["query"][:] == ["why"]
    rows = [{"query": "why", "positive_ids": "a", "label": 1}, {"query": "how", "positive_ids": "b", "label": 0}]
    assert load_pairs(rows).rows["query"][:] == ["why"]


def test_rows_may_lack_keys_that_others_have():
    rows = load_corpus([{"text": "sky"}, {"text": "sea", "_id": "2", "title": "water"}]).rows
    assert rows["_id"][:] == [None, "2"] and rows["title"][:] == [None, "water"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (",question,answer\n0,why,because\n1,how,so\n", ["why", "how"]),
        ("question,answer,\nwhy,because,\nhow,so,\n", ["why", "how"]),
        ("Question?,Answer?\nwhy,because\nhow,so\n", ["why", "how"]),
        ("question;answer, short\nwhy, mom;because\nhow, dad;so\n", ["why, mom", "how, dad"]),
    ],
)
def test_names_of_columns_as_programs_write_them(text, expected, tmp_path):
    (tmp_path / "rows.csv").write_text(text)
    pairs = load_pairs(tmp_path / "rows.csv")
    assert pairs.rows[pairs.columns.get("query", "query")][:] == expected


def test_files_that_begin_differently_are_refused_and_names_that_stand_twice(tmp_path):
    (tmp_path / "a.csv").write_text(
        "why is the sky so,it scatters light all day\nhow do tides come,the moon pulls the sea\n"
    )
    (tmp_path / "b.csv").write_text("question,answer\nwho,me\n")
    with pytest.raises(DataError, match="b.csv begins with 'question', 'answer', and .*a.csv with .why is the sky so"):
        load_pairs(str(tmp_path / "*.csv"))
    (tmp_path / "c.csv").write_text("question,answer,answer\nwhy,because,so\n")
    with pytest.raises(DataError, match="names several columns 'answer'"):
        load_pairs(tmp_path / "c.csv")


def test_files_may_have_the_same_columns_in_another_order(tmp_path):
    (tmp_path / "a.csv").write_text("question,answer\nwhy,because\n")
    (tmp_path / "b.csv").write_text("answer,question\nme,who\n")
    rows = load_pairs(str(tmp_path / "*.csv")).rows
    assert rows["question"][:] == ["why", "who"] and rows["answer"][:] == ["because", "me"]


def test_documents_of_a_folder_are_one_corpus_and_lines_end_at_line_ends(tmp_path):
    for name in ("a", "test", "eval-guide"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"_id": "{name}", "text": "{name} sky"}}\n')
    assert sorted(load_corpus(tmp_path).rows["_id"][:]) == ["a", "eval-guide", "test"]
    (tmp_path / "docs.txt").write_text("one\u2028line\nanother\x0cline\n")
    assert len(load_corpus(tmp_path / "docs.txt").rows) == 2


def test_a_row_of_more_cells_than_names_is_refused_by_its_line(tmp_path):
    """pandas takes the first cell of such rows for the name of the row, and the others for the columns."""
    (tmp_path / "x.csv").write_text("question,answer\n\nwhat,it,is\nwho,x\n")
    with pytest.raises(DataError, match=r"Line 3 of .*x.csv has 3 cells, 'what', 'it', 'is', and its first line 2"):
        load_pairs(tmp_path / "x.csv")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("sign", "name"), [(";", "x.csv"), ("|", "x.csv"), ("\t", "x.csv"), ("\t", "x.tsv")])
def test_the_line_in_which_excel_says_the_separator_is_no_row(tmp_path, sign, name, end):
    lines = [f"sep={sign}", f"question{sign}answer", f"what is, then{sign}this, that"]
    (tmp_path / name).write_text(end.join([*lines, ""]), newline="")
    rows = load_pairs(tmp_path / name).rows
    assert rows[:] == {"question": ["what is, then"], "answer": ["this, that"]}


def test_a_file_that_is_not_utf_8_is_refused_with_what_it_holds(tmp_path):
    (tmp_path / "x.csv").write_bytes("question,answer\ncafé,place\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"is not written in UTF-8 in line 2: it holds b'\\xe9' after b'.*caf'"):
        load_pairs(tmp_path / "x.csv")


def test_a_list_of_labels_may_be_called_label():
    rows = [{"query": "q", "positive": ["yes", "no"], "label": [1, 0]}]
    assert load_pairs(rows).rows[:] == {"query": ["q"], "positive": [["yes"]]}


def test_as_many_labels_as_documents_are_needed():
    rows = [{"query": "q", "positive": ["yes", "no"], "labels": [1]}]
    with pytest.raises(DataError, match="Row 0 has 2 documents in 'positive' and 1 labels in 'labels'"):
        load_pairs(rows)


def test_a_split_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="has no splits, and 'dev' was asked for"):
        opened("mine", ROWS, None, "bm25", {}, split="dev")
    splits = DatasetDict(dict.fromkeys(["train", "test"], Dataset.from_list(ROWS)))
    with pytest.raises(ConfigError, match="has the splits train, test, and 'dev' was asked for"):
        opened("mine", splits, None, "bm25", {}, split="dev")


@pytest.mark.parametrize("name", ["duplicate", "relevant"])
def test_a_column_called_as_labels_are_is_known_for_texts_by_its_values(name):
    texts = ["how do I boil an egg", "yes", "how is rice fried"]
    table = {"question": ["boil an egg", "say so", "fry some rice"], name: texts}
    read = load_pairs(Dataset.from_dict(table))
    assert read.columns["positive"] == name and len(read.rows) == 3
    beside = load_pairs(Dataset.from_dict({"query": table["question"], "positive": texts, name: texts}))
    assert len(beside.rows) == 3
    judged = load_pairs(Dataset.from_dict({**table, "answer": texts, name: ["1", "no", "yes"]}))
    assert judged.columns["positive"] == "answer" and len(judged.rows) == 2


@pytest.mark.parametrize("name", ["no-fil", "org/no-fil:config"])
def test_where_the_hub_is_out_of_reach_a_name_is_refused_at_once_in_both_its_readings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no-file").mkdir()
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("it tries again and again"))
    near = r" Did you mean no-file\?" if name == "no-fil" else ""
    with pytest.raises(DataError, match=rf"no file or folder {name}, and the Hub, .* be reached \(.*\)\.{near} Give"):
        mine(name)


def test_a_copy_of_a_data_set_with_capitals_serves_where_the_hub_is_out_of_reach(tmp_path, monkeypatch):
    """Its folder is called as `datasets` calls it, which keeps the capitals of the owner alone."""
    (tmp_path / "BeIR___sci_fact").mkdir()
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    check_hub("BeIR/SciFact:corpus")
    with pytest.raises(DataError, match="cannot be reached"):
        check_hub("BeIR/NFCorpus")


def test_a_line_of_too_many_cells_is_named_wherever_it_stands(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("question,answer\n" + "why,because\n" * 40 + "how,by,milk\n")
    with pytest.raises(DataError, match=r"line 42"):
        mine(str(path))


def test_a_frame_of_what_no_table_holds_is_named():
    frame = pd.DataFrame({"query": ["a", "b"], "positive": [object(), object()]})
    with pytest.raises(DataError, match="The frame cannot be read as a table"):
        mine(frame, TEXTS, "bm25")
