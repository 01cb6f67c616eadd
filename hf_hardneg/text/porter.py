"""Porter's stemmer for English, token for token as Lucene's.

M. F. Porter, An algorithm for suffix stripping, Program 14(3), 1980, with the three departures of its author's own
programs: `bli` becomes `ble`, `logi` becomes `log`, and any double consonant is undone. Snowball's `porter` has none.
"""

from __future__ import annotations

Rules = dict[str, list[tuple[str, str]]]


def _rules(replaced: dict[str, str]) -> Rules:
    """Suffixes and what replaces them, by their last two letters, longest first."""
    rules: Rules = {}
    for suffix in sorted(replaced, key=len, reverse=True):
        rules.setdefault(suffix[-2:], []).append((suffix, replaced[suffix]))
    return rules


_ONCE = _rules({
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "bli": "ble", "alli": "al",
    "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate", "ator": "ate", "alism": "al",
    "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al", "iviti": "ive", "biliti": "ble", "logi": "log",
})  # fmt: skip
_AGAIN = _rules({"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""})
_LAST = _rules({
    "al": "", "ance": "", "ence": "", "er": "", "ic": "", "able": "", "ible": "", "ant": "", "ement": "", "ment": "",
    "ent": "", "sion": "s", "tion": "t", "ou": "", "ism": "", "ate": "", "iti": "", "ous": "", "ive": "", "ize": "",
})  # fmt: skip
_FORM = bytes(ord("v" if code in b"aeiou" else "y" if code == ord("y") else "c") for code in range(256))


def stem(word: str) -> str:
    """The stem of a lower-case word; every character that is not one of its vowels counts as a consonant."""
    if len(word) <= 2:
        return word
    word = _without_inflection(word)
    if word.endswith("y") and b"v" in _form(word)[:-1]:
        word = word[:-1] + "i"
    word = _replaced(_replaced(_replaced(word, _ONCE, 1), _AGAIN, 1), _LAST, 2)
    return _without_last_letter(word)


def _without_inflection(word: str) -> str:
    """Plurals and participles, the paper's steps 1a and 1b."""
    if word.endswith("s"):
        word = word[: -2 if word.endswith(("sses", "ies")) else len(word) if word.endswith("ss") else -1]
    if word.endswith("eed"):
        return word[:-1] if b"vc" in _form(word)[:-3] else word
    left = word[:-2] if word.endswith("ed") else word[:-3] if word.endswith("ing") else ""
    form = _form(left)
    if b"v" not in form:
        return word
    if left.endswith(("at", "bl", "iz")):
        return left + "e"
    if form.endswith(b"c") and left[-1] == left[-2:-1]:
        return left if left[-1] in "lsz" else left[:-1]
    return left + "e" if form.count(b"vc") == 1 and _is_short(left, form) else left


def _replaced(word: str, rules: Rules, least: int) -> str:
    """The longest suffix is the only one tried: replaced where what is left has a measure of `least` or more."""
    for suffix, by in rules.get(word[-2:], ()):
        if word.endswith(suffix):
            left = word[: -len(suffix)]
            measured = left + by if rules is _LAST else left
            return left + by if _form(measured).count(b"vc") >= least else word
    return word


def _without_last_letter(word: str) -> str:
    """A final e and a double l, the paper's steps 5a and 5b."""
    form = _form(word)
    measure = form.count(b"vc")
    if word.endswith("e") and (measure > 1 or (measure == 1 and not _is_short(word[:-1], form[:-1]))):
        word = word[:-1]
    return word[:-1] if word.endswith("ll") and measure > 1 else word


def _form(word: str) -> bytes:
    """The letters as c and v; y is a vowel after a consonant. Each `vc` in it counts to the paper's measure."""
    form = word.encode("latin-1", "replace").translate(_FORM)
    while (place := form.find(b"y")) >= 0:
        form = form[:place] + (b"v" if form[:place].endswith(b"c") else b"c") + form[place + 1 :]
    return form


def _is_short(word: str, form: bytes) -> bool:
    """Ends in consonant, vowel, consonant, the last none of w, x and y."""
    return form.endswith(b"cvc") and word[-1] not in "wxy"
