"""How texts become terms: stems of words without stop words, pairs of characters where scripts have no spaces."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from hf_hardneg.errors import ConfigError, unknown_name, warn
from hf_hardneg.identity import identify
from hf_hardneg.runtime.arguments import check_fields
from hf_hardneg.text import porter
from hf_hardneg.text.words import bare, lucene_words, plain, words

ANALYSIS = 1
"""Of the rules by which texts become terms."""

STOP_WORDS = (
    *("chinese", "danish", "dutch", "english", "french", "german", "italian", "korean", "norwegian", "portuguese"),
    *("russian", "spanish", "swedish", "turkish"),
)
"""Languages with a stop word list in `bm25s.stopwords`."""

NO_LANGUAGES = frozenset({"dutch_porter", "german2", "kraaij_pohlmann", "lovins", "porter"})
"""Snowball's stemmers that another one of the same language stands beside."""

MOST_REMEMBERED = 1 << 17
"""Distinct words whose terms a process keeps."""


@dataclass(frozen=True, kw_only=True)
class Analyzer:
    """Stems of lower-cased words without stop words; pairs of characters in scripts without spaces.

    Numbers keep their inner signs (`1,000.5`), `c++` and `c#` are words, an emoji is one, an English `'s` is dropped,
    and compatible characters are one (NFKC). English is stemmed by Porter's algorithm as in Lucene, other languages by
    Snowball's; Chinese and Korean have no stems.

    Args:
        language (`str`, *optional*, defaults to `"english"`): whose stop words are dropped and whose stems are taken;
            `None` keeps all words as they are.
        stem (`bool`, defaults to `True`): reduce words to stems of `language`.
        lucene (`bool`, defaults to `False`): the tokens of Lucene's English analyzer, and so of Anserini and Pyserini:
            words by Unicode Standard Annex #29, each Han character alone.

    Raises:
        UnknownNameError: a language with neither stop words nor stems.
        ConfigError: `lucene=True` with another language or without stems.

    Examples:
        >>> Analyzer()("Hydrogen's 2 isotopes, heated to 1,200.5 K")
        ['hydrogen', '2', 'isotop', 'heat', '1,200.5', 'k']
        >>> Analyzer(language="german")("Die Katzen der Stadt")
        ['katz', 'stadt']
    """

    language: str | None = "english"
    stem: bool = True
    lucene: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.language is not None and self.language not in STOP_WORDS and self.language not in _stemmed():
            raise unknown_name("language", self.language, sorted({*STOP_WORDS, *_stemmed()}))
        if self.lucene and (self.language != "english" or not self.stem):
            raise ConfigError(
                f"Analyzer got lucene=True with language={self.language!r}, stem={self.stem}; Lucene's English "
                "analyzer has English stop words and stems. Leave language= and stem= out, or lucene=."
            )

    def __call__(self, text: str) -> list[str]:
        """The terms of a text, in order, repeated as often as they occur."""
        terms = _terms(self)
        return [term for word in self.words(text) if (term := terms[word])]

    def words(self, text: str) -> list[str]:
        """The words of a text, in order, lower-cased, stop words among them."""
        if not isinstance(text, str):
            raise ConfigError(f"Analyzer() reads texts and got a {type(text).__name__}; a string is allowed. Give one.")
        if self.language == "turkish":
            text = text.replace("I", "\u0131")
        return (lucene_words if self.lucene else words)(text)

    def terms(self, words: Sequence[str]) -> list[str]:
        """The term of each word that `words` gives, "" for a stop word."""
        return list(map(_terms(self).__getitem__, words))

    @property
    def keeps_ascii(self) -> bool:
        """Whether texts of ASCII are cut into words by the rules for any language."""
        return not self.lucene and self.language != "turkish"

    @property
    def identity(self) -> str:
        """Names all that terms depend on: the arguments, the rules, the stop words, and PyStemmer where it stems."""
        tables = sorted(_stop_words(self.language))
        if self.stem and self.language != "english" and self.language in _stemmed():
            tables.append(version("PyStemmer"))
        read = hashlib.blake2b("\n".join(tables).encode(), digest_size=16).hexdigest()
        return f"{self!r} {ANALYSIS} {read}"


class _Terms(dict[str, str]):
    """The term of each word met so far, "" for a stop word."""

    def __init__(self, analyzer: Analyzer) -> None:
        self.stop = _stop_words(analyzer.language)
        self.lucene = analyzer.lucene
        self.stem = _stemmer(analyzer.language) if analyzer.stem else None

    def __missing__(self, word: str) -> str:
        term = bare(word) if self.lucene else plain(word)
        term = "" if term in self.stop else self.stem(term) if self.stem else term
        if len(self) >= MOST_REMEMBERED:
            self.clear()
        self[word] = term
        return term


_terms = functools.lru_cache(maxsize=8)(_Terms)


@functools.cache
def _stop_words(language: str | None) -> frozenset[str]:
    if language is None or language not in STOP_WORDS:
        return frozenset()
    import bm25s.stopwords

    name = "EN" if language == "english" else language.upper()
    return frozenset(getattr(bm25s.stopwords, f"STOPWORDS_{name}"))


@functools.cache
def _stemmed() -> frozenset[str]:
    """The languages that have a stemmer."""
    import Stemmer

    return frozenset(Stemmer.algorithms()) - NO_LANGUAGES


def _stemmer(language: str | None) -> Callable[[str], str] | None:
    if language == "english":
        return porter.stem
    if language not in _stemmed():
        return None
    import Stemmer

    return Stemmer.Stemmer(language).stemWord


Tokenizer = Callable[[str], Sequence[str]]


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """Identifies a tokenizer: by its `identity` where it is an `Analyzer`, else by its code."""
    return tokenizer.identity if type(tokenizer) is Analyzer else identify(tokenizer, what="tokenizer")


ENOUGH_TO_JUDGE = 200
"""Characters, or words, below which nothing is said about a tokenizer."""


def warn_if_broken(characters: int, terms: int) -> None:
    """Warn when terms are implausibly long or short for what was read, as after a tokenizer for another script.

    Args:
        characters (`int`): read so far, without white space.
        terms (`int`): produced from them.
    """
    if characters >= ENOUGH_TO_JUDGE and not 1.2 <= characters / max(terms, 1) <= 25:
        warn(
            f"The tokenizer made {terms} terms of {characters} characters ({characters / max(terms, 1):.1f} characters "
            "per term; 2 to 15 is usual). Retrieval will be poor: pass a tokenizer for this language, "
            "tokenizer=callable(str) -> list[str]."
        )


SAMPLE = 2000
"""Texts by which a language is judged."""

OTHER_SHARE, OTHER_TIMES = 0.15, 2.0
"""How many of the words another language's stop words must be, absolutely and beside the language named."""


def warn_if_another_language(tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    """Warn when texts look as if in another language than an `Analyzer` reads them in, by both languages' stop words.

    Words of one letter tell nothing: `a` and `i` are Italian stop words, and English ones too.

    Args:
        tokenizer (`Tokenizer`): any; only an `Analyzer` names a language.
        texts (`Sequence[str]`): the first `SAMPLE` are read.
    """
    if not isinstance(tokenizer, Analyzer) or tokenizer.language is None:
        return
    counts = Counter(term for text in texts[:SAMPLE] for word in words(text) if len(term := plain(word)) > 1)
    if counts.total() < ENOUGH_TO_JUDGE:
        return
    shares = {name: sum(counts[word] for word in _stop_words(name)) / counts.total() for name in STOP_WORDS}
    named, other = shares.get(tokenizer.language, 0), max(shares, key=shares.__getitem__)
    if shares[other] >= max(OTHER_SHARE, OTHER_TIMES * named):
        warn(
            f"{shares[other]:.0%} of the words of the first texts are stop words of {other}, {named:.0%} of "
            f"{tokenizer.language}, in which BM25 reads them. If they are in {other}, pass "
            f"Strategy([BM25(config=BM25Config(tokenizer=Analyzer(language={other!r})))]), or --set "
            f"bm25.config.tokenizer.language={other} to the command; texts of several languages need language=None."
        )
