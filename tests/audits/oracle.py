"""What an audit must count, in slow and obvious Python, over rows of the list layout."""

import math
from collections import Counter

from hf_hardneg.audits import CHECKS
from hf_hardneg.signals import words
from hf_hardneg.text.keys import normalized


def word_grams(text):
    """A text's word 3-grams; all its words where it has fewer, and none where it has no word, as `+`."""
    spoken = words(text).split()
    return frozenset(" ".join(spoken[i : i + 3]) for i in range(max(len(spoken) - 2, min(len(spoken), 1))))


def of(row, what):
    return row.get(what) or []


def names(text, one):
    """What a query or a document is known by."""
    found = set()
    if text is not None and normalized(text):
        found.add(("text", normalized(text)))
    if one:
        found.add(("id", one))
    return found


def documents(row, texts, ids):
    size = max(len(of(row, texts)), len(of(row, ids)))
    pairs = zip(of(row, texts) or [None] * size, of(row, ids) or [None] * size, strict=True)
    return [(text, one, names(text, one)) for text, one in pairs]


def query_names(row):
    return names(row.get("query"), row.get("query_id"))


def counted(rows):
    """Counts of all checks that need the rows alone, where they are above 0; rows are dicts."""
    found = Counter()
    sizes = Counter(len(of(row, "negatives") or of(row, "negative_ids")) for row in rows)
    usual = min(size for size in sizes if sizes[size] == max(sizes.values()))
    known, everywhere, stands = {}, set(), Counter()
    for row in rows:
        stands[min(query_names(row), key=lambda name: name[0] != "text", default=None)] += 1
        for *_, called in documents(row, "positive", "positive_ids"):
            everywhere |= called
            for query in query_names(row):
                known.setdefault(query, set()).update(called)
    for row in rows:
        positives = documents(row, "positive", "positive_ids")
        negatives = documents(row, "negatives", "negative_ids")
        own = set().union(*(called for *_, called in positives))
        found["missing_query"] += "query" in row and not normalized(row["query"] or "")
        found["no_positive"] += not positives
        found["no_negative"] += not negatives
        found["short_row"] += 0 < len(negatives) < usual
        first = min(query_names(row), key=lambda name: name[0] != "text", default=None)
        found["repeated_query"] += first is not None and stands[first] > 1
        scored = [score for score in of(row, "positive_scores") if score is not None and not math.isnan(score)]
        for kind, listed in (("positive", positives), ("negative", negatives)):
            before = set()
            for text, _, called in listed:
                found[f"repeated_{kind}"] += bool(called & before)
                before |= called
                found["missing_text"] += "positive" in row and not normalized(text or "")
            found["bad_score"] += sum(
                score is not None and not math.isfinite(score) for score in of(row, f"{kind}_scores")
            )
        for place, (text, one, called) in enumerate(negatives):
            found["positive_id"] += ("id", one) in own
            same = text is not None and ("text", normalized(text)) in own
            identical = same and text in of(row, "positive")
            found["positive_text"] += identical
            found["positive_normalized"] += same and not identical
            anywhere = bool(set().union(*(known.get(query, set()) for query in query_names(row))) & called)
            mine = same or ("id", one) in own
            found["positive_elsewhere"] += anywhere and not mine
            found["positive_of_another"] += bool(called & everywhere) and not anywhere and not mine
            found["query_as_negative"] += bool({name for name in called if name[0] == "text"} & query_names(row))
            if text is not None:
                found["near_duplicate"] += not same and overlap(text, of(row, "positive")) >= 0.8
            if scored and of(row, "negative_scores"):
                score = of(row, "negative_scores")[place]
                found["above_positive"] += score is not None and score > max(scored)
    assert set(found) <= set(CHECKS)
    return {name: count for name, count in found.items() if count}


def overlap(text, others):
    grams = [(word_grams(text), word_grams(other)) for other in others if other is not None]
    return max((len(one & other) / max(len(one | other), 1) for one, other in grams), default=0.0)


def compared(audit):
    """What of an audit the oracle counts too."""
    return {name: count for name, count in audit.counts.items() if name not in BEYOND}


BEYOND = {"judged_relevant", "leaked_query", "leaked_document", "misaligned", "frequent_negative"}
BEYOND |= {"unknown_id", "unknown_text", "other_text"}
