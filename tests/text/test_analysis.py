import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from hf_hardneg import BM25Config
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import ConfigError, HardNegWarning, UnknownNameError
from hf_hardneg.index.bm25.bm25_index import BM25Index, build_bm25
from hf_hardneg.text import analysis
from hf_hardneg.text.analysis import Analyzer, tokenizer_digest

LUCENE = json.loads((Path(__file__).parent / "lucene_tokens.json").read_text())
"""Texts and the tokens that Anserini 1.7.1's default English analyzer (Lucene 10) gave for them."""

GERMAN = """Der schnelle Fuchs springt über den faulen Hund und läuft dann durch den Wald nach Hause. Die Kinder in der
Stadt spielen gern auf der Straße, wenn das Wetter schön ist."""


@pytest.mark.slow
@pytest.mark.parametrize("case", LUCENE, ids=lambda case: ascii(case["text"][:20]))
def test_tokens_are_those_of_lucene(case):
    assert Analyzer(lucene=True)(case["text"]) == case["tokens"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The Cats are RUNNING, a b", "cat run b"),
        ("John's JOHN\u2019S the boss' that's __init__ ___", "john john boss init"),
        ("don't l'avion rock'n'roll", "don t l avion rock n roll"),
        ("state-of-the-art e-mail", "state art e mail"),
        ("1,000 1,000.5 v1.2.3 .5 5. 3.5mg 12:30 28/11 1980s", "1,000 1,000.5 v1.2.3 5 5 3.5mg 12 30 28 11 1980"),
        ("C++ C# F# C++11 a#b x++ .NET TCP/IP", "c++ c# f# c++ 11 b x++ net tcp ip"),
        ("foo.bar std::vector snake_case end.Next", "foo bar std vector snake_cas end next"),
        ("vitamin C type 2 grade B", "vitamin c type 2 grade b"),
        ("TNF-\u03b1 10\u00b5l H\u2082O 10\u00b2 m\u00b2", "tnf \u03b1 10\u03bcl h2o 10 2 m 2"),
        ("1\u00bd Foo\u2122", "1 1 2 foo tm"),
        ("\ufb01ne \uff21\uff22\uff23\uff11 cafe\u0301 caf\u00e9", "fine abc1 caf\u00e9 caf\u00e9"),
        ("\u0130stanbul soft\u00adhyphen \ufeffbom zero\u200bwidth", "istanbul softhyphen bom zero width"),
        ("\u6771\u4eac\u90fd is \u5927", "\u6771\u4eac \u4eac\u90fd \u5927"),
        ("\u30ab\u30bf\u30ab\u30ca \uff76\uff85", "\u30ab\u30bf \u30bf\u30ab \u30ab\u30ca \u30ab\u30ca"),
        ("\u0e44\u0e17\u0e22 x", "\u0e44\u0e17 \u0e17\u0e22 x"),
        ("\ud55c\uad6d\uc5b4 3\uac1c", "\ud55c\uad6d\uc5b4 3\uac1c"),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", "\u0939\u093f\u0928\u094d\u0926\u0940"),
        ("\u0639\u064e\u0631\u064e\u0628", "\u0639\u064e\u0631\u064e\u0628"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645"),
        ("ok\U0001f600ok \u2764\ufe0f \U0001f1e9\U0001f1ea", "ok \U0001f600 ok \u2764 \U0001f1e9\U0001f1ea"),
        (" \n", ""),
        ("... !?", ""),
    ],
)  # fmt: skip
def test_terms_by_default(text, terms):
    assert Analyzer()(text) == terms.split()


def test_words_are_kept_as_they_are_where_asked():
    assert Analyzer(stem=False)("The cats' analogies") == ["cats", "analogies"]
    assert Analyzer(language=None)("The cats' analogies are 2") == ["the", "cats", "analogies", "are", "2"]


def test_languages():
    assert Analyzer(language="german")("Der Hund und die Katzen der Häuser") == ["hund", "katz", "haus"]
    assert Analyzer(language="french")("L'avion et les chevaux") == ["avion", "cheval"]
    assert Analyzer(language="russian")("в городе и на улицах") == ["город", "улиц"]
    assert Analyzer(language="turkish")("KADIN kad\u0131n İzmir") == ["kad\u0131", "kad\u0131", "izmir"]
    assert Analyzer(language="finnish")("talossa talo") == ["talo", "talo"], "stems without a list of stop words"
    assert Analyzer(language="korean")("한국어") == ["한국어"], "stop words without stems"
    for language in analysis._stemmed() | set(analysis.STOP_WORDS):
        assert Analyzer(language=language)("2") == ["2"]


def test_what_cannot_be_analyzed_is_refused():
    with pytest.raises(UnknownNameError, match="Unknown language 'englsh'.*Did you mean 'english'"):
        Analyzer(language="englsh")
    with pytest.raises(UnknownNameError, match="Unknown language 'porter'"):
        Analyzer(language="porter")
    for fault in ({"language": "german"}, {"language": None}, {"stem": False}):
        with pytest.raises(ConfigError, match="lucene=True with .* Leave"):
            Analyzer(lucene=True, **fault)


def test_identity(monkeypatch):
    changed = [
        Analyzer(),
        Analyzer(stem=False),
        Analyzer(lucene=True),
        Analyzer(language="german"),
        Analyzer(language=None),
    ]
    digests = {tokenizer_digest(analyzer) for analyzer in changed}
    assert len(digests) == len(changed)
    code = "from hf_hardneg import Analyzer; print(Analyzer(language='german').identity)"
    german = Analyzer(language="german")
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == german.identity
    before, english = german.identity, Analyzer().identity
    stop_words = analysis._stop_words("english")
    monkeypatch.setattr(analysis, "version", lambda name: f"{name} 99")
    assert german.identity != before, "stems may be others in another release of PyStemmer"
    assert Analyzer().identity == english, "English is stemmed here, and has one identity everywhere"
    monkeypatch.setattr(analysis, "_stop_words", lambda language: stop_words | {"also"})
    assert Analyzer().identity != english


def test_an_analyzer_that_was_used_pickles_as_its_arguments():
    analyzer = Analyzer()
    analyzer("many cats")
    assert len(pickle.dumps(analyzer)) < 200
    assert pickle.loads(pickle.dumps(analyzer)) == analyzer


def test_terms_do_not_depend_on_what_is_remembered(monkeypatch):
    texts = [case["text"] for case in LUCENE]
    expected = [Analyzer()(text) for text in texts]
    monkeypatch.setattr(analysis, "MOST_REMEMBERED", 3)
    analysis._terms.cache_clear()
    assert [Analyzer()(text) for text in texts] == expected
    assert len(analysis._terms(Analyzer())) <= 3
    analysis._terms.cache_clear()


def built(texts, cache, tokenizer):
    corpus = open_corpus(Dataset.from_dict({"text": texts}), cache_dir=str(cache))
    config = BM25Config(tokenizer=tokenizer)
    return BM25Index(directory=build_bm25(corpus, config), config=config)


def test_inflected_numbered_and_one_letter_words_are_found(tmp_path):
    texts = [
        "vitamin d in mice",
        "vitamin c in mice",
        "type 2 diabetes",
        "type 1 diabetes",
        "the biology of a running cat",
    ]
    index = built(texts, tmp_path, Analyzer())
    hits = index.search(["Vitamins C", "diabetes of type 1", "cats run"], np.array([1, 1, 1]))
    assert hits.doc.tolist() == [1, 3, 4]


def test_texts_in_another_language_are_said(tmp_path):
    german, english = [GERMAN] * 10, ["The quick fox jumps over the lazy dog and runs to the house in the wood"] * 20
    with pytest.warns(HardNegWarning, match=r"stop words of german, \d+% of english.*language='german'"):
        built(german, tmp_path, Analyzer())
    with pytest.warns(HardNegWarning, match="stop words of english"):
        built(english, tmp_path, Analyzer(language="finnish"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("texts", "tokenizer"),
    [
        ([GERMAN] * 10, Analyzer(language="german")),
        ([GERMAN] * 10, Analyzer(language=None)),
        ([GERMAN] * 10, str.split),
        ([GERMAN], Analyzer()),
        (["http client, json parser, c++ bindings"] * 90, Analyzer()),
        (["how do i paint a bike", "where can i buy a car"] * 90, Analyzer()),
    ],
    ids=["its language", "no language", "a callable", "too little", "keywords", "one-letter words"],
)
def test_other_texts_are_not(texts, tokenizer, tmp_path):
    assert len(built(texts, tmp_path, tokenizer).search(["der json"], np.array([1])).doc) <= 1
