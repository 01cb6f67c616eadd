"""Layouts that people have, each from its raw files to mined rows in one call and in one command, nothing renamed."""

import csv
import gzip
import json
import sqlite3

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from datasets import Dataset, DatasetDict, load_from_disk

from hf_hardneg import mine
from hf_hardneg.cli import main
from tests.formats.layouts_page import PAGE, with_table

DOCUMENTS = {
    "001": ("Sky", "The sky is blue because air scatters blue light."),
    "002": ("Sea", "The sea is salty because rivers carry salt into it."),
    "003": ("Lava", "Lava is molten rock that leaves a volcano."),
    "004": ("Lantern", "Sky lanterns are small hot air balloons of paper."),
    "005": ("Mine", "Rock salt is mined where a sea dried up."),
    "006": ("Island", "A volcano in the sea makes islands of rock."),
    "007": ("Sunset", "At sunset the light crosses more air and the sky is red."),
    "010": ("Glass", "Volcanic glass is lava that cooled before it could crystallise."),
}
PAIRS = {
    "why is the sky blue": ["001"],
    "why is the sea salty": ["002"],
    "what is lava": ["003", "010"],
    "why is the sky red at sunset": ["007"],
}
TEXTS = {key: text for key, (_, text) in DOCUMENTS.items()}
TITLED = {key: f"{title} {text}" for key, (title, text) in DOCUMENTS.items()}
SINGLE = [(query, key) for query, keys in PAIRS.items() for key in keys]
IDS = {query: f"q{number}" for number, query in enumerate(PAIRS)}
LAYOUTS = {}


def layout(function):
    """Add to the table what writes files of a layout: from a folder to the pairs, and the corpus where it is apart."""
    LAYOUTS[function.__name__] = function
    return function


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def cells(path, rows, separator=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=separator, quoting=csv.QUOTE_MINIMAL, lineterminator="\n").writerows(rows)
    return path


def corpus(folder, name="corpus.jsonl", key="_id"):
    return lines(
        folder / name, ({key: key_, "title": title, "text": text} for key_, (title, text) in DOCUMENTS.items())
    )


def untitled(folder):
    return lines(folder / "docs.jsonl", ({"_id": key, "text": text} for key, text in TEXTS.items()))


def queries(folder, name="queries.jsonl"):
    return lines(folder / name, ({"_id": IDS[query], "text": query} for query in PAIRS))


def judged(grade=1):
    """Judgements of every positive, and one of a document that is not relevant."""
    yield from ((IDS[query], key, grade) for query, key in SINGLE)
    yield IDS["why is the sky blue"], "004", 0


@layout
def csv_question_answer(folder):
    return cells(folder / "faq.csv", [("question", "answer"), *((query, TEXTS[key]) for query, key in SINGLE)]), None


@layout
def csv_of_a_spreadsheet(folder):
    rows = [("Question", "Answer", "Source"), *((query, TEXTS[key], "wiki") for query, key in SINGLE)]
    return cells(folder / "faq.csv", rows, ";"), None


@layout
def csv_without_names(folder):
    return cells(folder / "faq.csv", ((query, TEXTS[key]) for query, key in SINGLE)), None


@layout
def tsv_with_names_in_another_language(folder):
    rows = [("frage", "antwort"), *((query, TEXTS[key]) for query, key in SINGLE)]
    return cells(folder / "faq.tsv", rows, "\t"), None


@layout
def tsv_without_names(folder):
    return cells(folder / "faq.tsv", ((query, TEXTS[key]) for query, key in SINGLE), "\t"), None


@layout
def tsv_of_ids_and_texts_without_names(folder):
    rows = ((IDS[query], query, TEXTS[key]) for query, key in SINGLE)
    documents = cells(folder / "docs.tsv", ((key, text) for key, text in TEXTS.items()), "\t")
    return cells(folder / "pairs.tsv", rows, "\t"), documents


@layout
def csv_of_ids(folder):
    documents = cells(folder / "docs.csv", [("docid", "contents"), *TEXTS.items()])
    return cells(folder / "pairs.csv", [("question", "docid"), *SINGLE]), documents


@layout
def csv_with_ids_in_the_place_of_positives(folder):
    return cells(folder / "pairs.csv", [("query", "positive"), *SINGLE]), corpus(folder)


@layout
def jsonl(folder):
    rows = [{"query": query, "positive": [TEXTS[key] for key in keys]} for query, keys in PAIRS.items()]
    return lines(folder / "pairs.jsonl", rows), lines(folder / "docs.txt", TEXTS.values())


@layout
def jsonl_gz(folder):
    path = folder / "pairs.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl(folder)[0].read_bytes()))
    return path, None


@layout
def jsonl_zst(folder):
    path = folder / "docs.jsonl.zst"
    path.write_bytes(zstandard.compress(corpus(folder).read_bytes()))
    return lines(
        folder / "pairs.jsonl", ({"query": query, "positive_ids": keys} for query, keys in PAIRS.items())
    ), path


@layout
def json_array(folder):
    path = folder / "pairs.json"
    path.write_text(json.dumps([{"query": query, "positive": TEXTS[key]} for query, key in SINGLE], indent=1))
    return path, None


@layout
def json_from_ids_to_texts(folder):
    documents, pairs = folder / "docs.json", folder / "pairs.json"
    documents.write_text(json.dumps(TEXTS, indent=1))
    pairs.write_text(json.dumps({query: [TEXTS[key] for key in keys] for query, keys in PAIRS.items()}))
    return pairs, documents


@layout
def parquet_shards(folder):
    for number, (query, key) in enumerate(SINGLE):
        (folder / "rows").mkdir(exist_ok=True)
        table = pa.table({"query": [query], "positive": [TEXTS[key]]})
        pq.write_table(table, folder / "rows" / f"part-{number:05}-of-00005.parquet")
    return folder / "rows", None


@layout
def glob_of_jsonl(folder):
    for number, (key, (title, text)) in enumerate(DOCUMENTS.items()):
        lines(folder / "docs" / f"{number}.jsonl", [{"id": key, "Title": title, "Text": text}])
    pairs = lines(folder / "pairs.jsonl", ({"query": query, "doc_ids": keys} for query, keys in PAIRS.items()))
    return pairs, folder / "docs" / "*.jsonl"


@layout
def splits_in_a_folder(folder):
    lines(folder / "data" / "train.jsonl", [{"query": query, "positive": TEXTS[key]} for query, key in SINGLE[:3]])
    lines(folder / "data" / "test.jsonl", [{"query": query, "positive": TEXTS[key]} for query, key in SINGLE[3:]])
    return folder / "data", untitled(folder)


@layout
def save_to_disk(folder):
    rows = Dataset.from_list([{"query": query, "positive_ids": keys} for query, keys in PAIRS.items()])
    documents = Dataset.from_list([{"_id": key, "text": text} for key, text in TEXTS.items()])
    rows.save_to_disk(folder / "rows")
    DatasetDict({"corpus": documents, "other": documents.select([0])}).save_to_disk(folder / "documents")
    return folder / "rows", folder / "documents"


@layout
def sqlite(folder):
    with sqlite3.connect(folder / "base.db") as base:
        base.execute("create table docs (id text, body text)")
        base.executemany("insert into docs values (?, ?)", TEXTS.items())
        base.execute("create table asked (question text, positive_id text)")
        base.executemany("insert into asked values (?, ?)", SINGLE)
    base.close()
    url = f"sqlite:///{folder / 'base.db'}"
    return f"{url}?query=SELECT question, positive_id FROM asked ORDER BY rowid", f"{url}?table=docs"


@layout
def folder_of_texts(folder):
    for key, text in TEXTS.items():
        lines(folder / "texts" / key[:2] / f"{key}.txt", [text])
    rows = [("question", "document_id"), *((query, f"{key[:2]}/{key}.txt") for query, key in SINGLE)]
    return cells(folder / "pairs.csv", rows), folder / "texts"


@layout
def rows_beside_their_documents(folder):
    corpus(folder / "set")
    lines(folder / "set" / "train.jsonl", ({"query": query, "positive_ids": keys} for query, keys in PAIRS.items()))
    return folder / "set", None


@layout
def beir(folder):
    corpus(folder / "beir")
    queries(folder / "beir")
    rows = [("query-id", "corpus-id", "score"), *judged()]
    cells(folder / "beir" / "qrels" / "test.tsv", rows, "\t")
    return folder / "beir", None


@layout
def a_split_of_beir(folder):
    beir(folder)
    cells(folder / "beir" / "qrels" / "dev.tsv", [("query-id", "corpus-id", "score"), ("q0", "001", 1)], "\t")
    return folder / "beir" / "qrels" / "test.tsv", None


@layout
def mteb(folder):
    """A copy of a repository with the configs corpus, queries and default."""
    tables = {
        "corpus/corpus": {"_id": list(DOCUMENTS), "title": [""] * len(DOCUMENTS), "text": list(TEXTS.values())},
        "queries/queries": {"_id": list(IDS.values()), "text": list(PAIRS)},
        "default/test": dict(
            zip(("query-id", "corpus-id", "score"), map(list, zip(*judged(), strict=True)), strict=True)
        ),
    }
    for name, columns in tables.items():
        path = folder / "mteb" / f"{name}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
    return folder / "mteb", None


@layout
def ms_marco(folder):
    cells(folder / "marco" / "collection.tsv", TEXTS.items(), "\t")
    cells(folder / "marco" / "queries.train.tsv", ((IDS[query], query) for query in PAIRS), "\t")
    cells(folder / "marco" / "qrels.train.tsv", ((query, 0, key, grade) for query, key, grade in judged()), "\t")
    return folder / "marco", None


@layout
def ms_marco_triples(folder):
    rows = ((query, TEXTS[key], TEXTS["006"]) for query, key in SINGLE)
    documents = cells(folder / "collection.tsv", TEXTS.items(), "\t")
    return cells(folder / "triples.train.small.tsv", rows, "\t"), documents


@layout
def ms_marco_triples_of_ids(folder):
    cells(folder / "marco" / "collection.tsv", TEXTS.items(), "\t")
    cells(folder / "marco" / "queries.train.tsv", ((IDS[query], query) for query in PAIRS), "\t")
    cells(folder / "marco" / "qidpidtriples.train.tsv", ((IDS[query], key, "006") for query, key in SINGLE), "\t")
    return folder / "marco", None


@layout
def trec(folder):
    lines(folder / "trec" / "qrels.txt", (f"{query} 0 {key}   {grade}" for query, key, grade in judged(2)))
    lines(folder / "trec" / "run.bm25.trec", (f"{IDS[query]} Q0 006 1 9.5 bm25" for query in PAIRS))
    cells(folder / "trec" / "topics.tsv", ((IDS[query], query) for query in PAIRS), "\t")
    corpus(folder / "trec", "docs.jsonl", "docno")
    return folder / "trec", None


@layout
def flag_embedding(folder):
    rows = [
        {"query": query, "pos": [TEXTS[key] for key in keys], "neg": [TEXTS["006"]], "prompt": "Find"}
        for query, keys in PAIRS.items()
    ]
    return lines(folder / "flag.jsonl", rows), None


@layout
def flag_embedding_without_negatives(folder):
    rows = [{"query": query, "pos": [TEXTS[key] for key in keys]} for query, keys in PAIRS.items()]
    return lines(folder / "flag.jsonl", rows), lines(folder / "docs.jsonl", ({"text": text} for text in TEXTS.values()))


def passages(keys):
    return [{"docid": key, "title": DOCUMENTS[key][0], "text": DOCUMENTS[key][1]} for key in keys]


@layout
def tevatron(folder):
    rows = [
        {
            "query_id": IDS[query],
            "query": query,
            "positive_passages": passages(keys),
            "negative_passages": passages(["006"]),
        }
        for query, keys in PAIRS.items()
    ]
    return lines(folder / "train.jsonl", rows), corpus(folder, key="docid")


@layout
def tevatron_by_ids(folder):
    rows = [
        {"query_id": IDS[query], "query_text": query, "positive_document_ids": keys, "negative_document_ids": ["006"]}
        for query, keys in PAIRS.items()
    ]
    corpus(folder / "tevatron", key="docid")
    lines(folder / "tevatron" / "train.jsonl", rows)
    return folder / "tevatron", None


@layout
def dpr(folder):
    rows = [
        {
            "question": query,
            "answers": ["blue"],
            "positive_ctxs": [{"title": title, "text": text, "score": 1.5, "passage_id": key}],
            "negative_ctxs": [],
            "hard_negative_ctxs": [{"title": "Island", "text": TEXTS["006"], "score": 0.5, "passage_id": "006"}],
        }
        for query, key in SINGLE
        for title, text in [DOCUMENTS[key]]
    ]
    path = folder / "biencoder-train.json"
    path.write_text(json.dumps(rows, indent=4))
    rows = [("id", "text", "title"), *((key, text, title) for key, (title, text) in DOCUMENTS.items())]
    return path, cells(folder / "psgs.tsv", rows, "\t")


def asked(query, key, answers=("blue",)):
    found = [{"text": answer, "answer_start": 0} for answer in answers]
    return {"id": f"{IDS[query]}-{key}", "question": query, "answers": found, "is_impossible": not found}


@layout
def squad(folder):
    rows = [
        {"id": f"{number}", "title": "Sky", "context": TEXTS[key], "question": query, "answers": {"text": ["a"]}}
        for number, (query, key) in enumerate(SINGLE)
    ]
    rows.append({**rows[0], "id": "x", "question": "who painted the sky", "answers": {"text": []}})
    return lines(folder / "squad.jsonl", rows), None


@layout
def squad_as_published(folder):
    articles = [
        {
            "title": DOCUMENTS[key][0],
            "paragraphs": [
                {"context": TEXTS[key], "qas": [asked(query, key), asked("why is the sky blue", "x", answers=())]},
                {"context": TEXTS["004"], "qas": []},
            ],
        }
        for query, key in SINGLE
    ]
    path = folder / "train-v2.0.json"
    path.write_text(json.dumps({"version": "v2.0", "data": articles}))
    return path, None


def inferred(labels):
    for query, key in SINGLE:
        yield {"premise": query, "hypothesis": TEXTS[key], "label": labels[0]}
    yield {"premise": "why is the sky blue", "hypothesis": TEXTS["004"], "label": labels[1]}
    yield {"premise": "what is lava", "hypothesis": TEXTS["006"], "label": labels[2]}


@layout
def nli_in_words(folder):
    rows = [tuple(row.values()) for row in inferred(("entailment", "neutral", "contradiction"))]
    return cells(folder / "nli.csv", [("premise", "hypothesis", "label"), *rows]), None


@layout
def nli_in_numbers(folder):
    return lines(folder / "nli.jsonl", inferred((0, 1, 2))), untitled(folder)


@layout
def snli_as_published(folder):
    rows = [
        {"gold_label": label, "sentence1": premise, "sentence2": hypothesis, "pairID": "1"}
        for premise, hypothesis, label in map(dict.values, inferred(("entailment", "-", "contradiction")))
    ]
    return lines(folder / "snli.jsonl", rows), None


@layout
def quora(folder):
    rows = [("id", "qid1", "qid2", "question1", "question2", "is_duplicate")]
    rows += [(n, 2 * n, 2 * n + 1, query, TEXTS[key], 1) for n, (query, key) in enumerate(SINGLE)]
    rows.append((9, 18, 19, "why is the sky blue", TEXTS["004"], 0))
    return cells(folder / "quora.tsv", rows, "\t"), None


@layout
def msmarco_hard_negatives(folder):
    numbers = {query: number for number, query in enumerate(PAIRS)}
    rows = [
        {"qid": numbers[query], "pos": [int(key) for key in keys], "neg": {"bm25": [6], "dense": [4, 6]}}
        for query, keys in PAIRS.items()
    ]
    path = lines(folder / "set" / "msmarco-hard-negatives.jsonl", rows)
    (folder / "set" / "msmarco-hard-negatives.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    cells(folder / "set" / "collection.tsv", ((int(key), text) for key, text in TEXTS.items()), "\t")
    cells(folder / "set" / "queries.tsv", ((number, query) for query, number in numbers.items()), "\t")
    return folder / "set", None


@layout
def sentence_transformers_pairs(folder):
    return lines(folder / "pairs.jsonl", ({"anchor": query, "positive": TEXTS[key]} for query, key in SINGLE)), None


@layout
def sentence_transformers_triplets(folder):
    rows = [{"anchor": query, "positive": TEXTS[key], "negative": TEXTS["006"]} for query, key in SINGLE]
    Dataset.from_list(rows).to_parquet(folder / "triplets.parquet")
    return folder / "triplets.parquet", untitled(folder)


@layout
def sentence_transformers_labelled_pairs(folder):
    rows = [(query, TEXTS[key], 1) for query, key in SINGLE]
    rows += [("why is the sky blue", TEXTS["004"], 0), ("what is lava", TEXTS["006"], 0)]
    return cells(folder / "pairs.csv", [("sentence1", "sentence2", "label"), *rows]), None


@layout
def sentence_transformers_labelled_lists(folder):
    rows = [
        {"query": query, "docs": [*(TEXTS[key] for key in keys), TEXTS["006"]], "labels": [*(1 for _ in keys), 0]}
        for query, keys in PAIRS.items()
    ]
    return lines(folder / "lists.jsonl", rows), None


@layout
def arrays_of_embedding_training_data(folder):
    return lines(folder / "pairs.jsonl", ([query, TEXTS[key]] for query, key in SINGLE)), None


@layout
def colbert(folder):
    place = {key: number for number, key in enumerate(TEXTS)}
    rows = [[number, place[key], place["006"]] for number, query in enumerate(PAIRS) for key in PAIRS[query]]
    lines(folder / "colbert" / "triples.jsonl", rows)
    cells(folder / "colbert" / "queries.tsv", enumerate(PAIRS), "\t")
    cells(folder / "colbert" / "collection.tsv", enumerate(TEXTS.values()), "\t")
    return folder / "colbert", None


@layout
def nemo(folder):
    rows = [
        {"question": query, "pos_doc": [TEXTS[key] for key in keys], "neg_doc": []} for query, keys in PAIRS.items()
    ]
    return lines(folder / "train.jsonl", rows), None


def known(rows, name):
    """The positives of each query, in whichever column they came."""
    names = {"query", "question", "Question", "frage", "anchor", "premise", "sentence1", "question1", "query_text"}
    (query,) = names & set(rows.column_names)
    positives = {}
    for row in rows:
        texts = [row[name]] if isinstance(row[name], str) else row[name]
        positives.setdefault(row[query], set()).update(texts)
    return query, positives


def check(mined, name):
    """Every query has its positives, and negatives that are other documents."""
    splits = list(mined.values()) if isinstance(mined, DatasetDict) else [mined]
    documents = {*TEXTS.values(), *TITLED.values(), *(PAIRS if name == "quora" else ())}
    positives, negatives = {}, 0
    for rows in splits:
        query, texts = known(rows, _positive_of(rows))
        for text, each in texts.items():
            positives.setdefault(text, set()).update(_plain(each))
        for row in rows:
            wrong = {TEXTS[key] for key in PAIRS[row[query]]}
            assert not _plain(row["negatives"]) & wrong, (name, row)
            assert {text.strip() for text in row["negatives"]} <= documents, (name, row)
            negatives += len(row["negatives"])
    assert positives == {query: {TEXTS[key] for key in keys} for query, keys in PAIRS.items()}, name
    assert negatives, name


def _plain(texts):
    """Texts of documents without their titles."""
    untitled = {title: TEXTS[key] for key, title in TITLED.items()}
    return {untitled.get(text.strip(), text.strip()) for text in texts}


def _positive_of(rows):
    names = (
        "positive",
        "answer",
        "Answer",
        "antwort",
        "pos",
        "context",
        "hypothesis",
        "sentence2",
        "question2",
        "docs",
        "pos_doc",
    )
    return next(name for name in names if name in rows.column_names and "id" not in name and _are_texts(rows[0][name]))


def _are_texts(value):
    return any(" " in text for text in ([value] if isinstance(value, str) else value))


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_python(name, tmp_path):
    pairs, documents = LAYOUTS[name](tmp_path)
    check(mine(pairs, documents, "bm25", num_negatives=3, safeguards=False), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_command(name, tmp_path, capsys):
    pairs, documents = LAYOUTS[name](tmp_path)
    where = ["--pairs", str(pairs), *(["--corpus", str(documents)] if documents else [])]
    how = ["--strategy", "bm25", "--num-negatives", "3", "--no-safeguards", "--out", str(tmp_path / "mined")]
    assert main(["mine", *where, *how]) == 0, capsys.readouterr().err
    mined = load_from_disk(tmp_path / "mined")
    check(mined, name)


def test_there_are_thirty_at_least():
    assert len(LAYOUTS) >= 30


def test_a_dry_run_says_what_the_data_are_and_prints_three_rows(tmp_path, capsys):
    pairs, _ = csv_of_a_spreadsheet(tmp_path)
    assert main(["mine", "--pairs", str(pairs), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "faq.csv: 5 pairs, query 'Question', positive 'Answer' · corpus: the 5 distinct positives" in shown
    assert shown.count("query      ") == 3 and "5 pairs and 5 documents; nothing was mined" in shown
    assert main(["mine", "--pairs", str(pairs), "--strategy", "bm25"]) == 2
    assert "No --out was named" in capsys.readouterr().err


def test_the_page_says_what_the_table_of_layouts_says():
    """Where it does not: `python -m tests.formats.layouts_page`."""
    assert PAGE.read_text() == with_table(PAGE.read_text())


def test_duplicates_are_the_same_under_any_names_of_columns(tmp_path):
    pairs = {"question1": ["boil an egg", "fry some rice"], "question2": ["egg, how to boil", "rice, how to fry"]}
    named = Dataset.from_dict({"a": pairs["question1"], "b": pairs["question2"]})
    options = {"num_negatives": 3, "cache_dir": str(tmp_path)}
    by_name = mine(Dataset.from_dict(pairs), **options)
    by_columns = mine(named, columns={"query": "a", "positive": "b"}, symmetric=True, **options)
    assert by_columns["negatives"][:] == by_name["negatives"][:] and max(map(len, by_name["negatives"])) == 0
    wide = {"columns": {"query": "a", "positive": "b"}, "strategy": "random", **options}
    for symmetric, texts in ((True, {*pairs["question1"], *pairs["question2"]}), (False, set(pairs["question2"]))):
        mined = mine(named, symmetric=symmetric, **wide)
        assert {text for row in mined["negatives"] for text in row} == texts
