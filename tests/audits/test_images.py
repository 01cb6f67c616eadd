"""Rows of images in audits, reports, reviews, plans and judges: called by their names, and never read as words."""

import pytest
from datasets import Dataset, Features, Image, List
from transformers import AutoTokenizer

from hf_hardneg import audit, mine, plan, report
from hf_hardneg.audits.shown_rows import ShownRows
from hf_hardneg.audits.verdict_log import VerdictLog
from hf_hardneg.cli.mine_commands import deliver
from hf_hardneg.cli.option_groups import Saving
from hf_hardneg.corpus.pictures import named
from hf_hardneg.errors import ConfigError
from hf_hardneg.hub import figures
from hf_hardneg.models import load_cross_encoder
from hf_hardneg.training import CrossBatchCollator
from tests.cross_encoders import MINILM, cross_encoder
from tests.drawn import pixels, saved, world
from tests.worlds import shared_words


@pytest.fixture(scope="module")
def job():
    drawn = world(60, 20, copies=10)
    images = dict(zip(drawn.corpus["_id"], drawn.corpus["image"], strict=True))
    positives = [images[ids[0]] for ids in drawn.pairs["positive_ids"]]
    rows = {
        "query": [saved(image.rotate(180)) for image in positives],
        "positive": [[saved(image)] for image in positives],
    }
    pairs = Dataset.from_dict(rows).cast_column("query", Image()).cast_column("positive", List(Image()))
    return pairs, drawn.corpus


@pytest.fixture(scope="module")
def mined(job):
    return mine(*job, "dense", encoder=pixels, num_negatives=3)


def test_an_audit_finds_positives_among_negatives_by_their_pixels(job, mined):
    def planted(row, number):
        copy = named(saved(row["positive"][0], "BMP"))
        return {"negatives": [copy, *row["negatives"][1:]]} if number < 5 else {}

    assert "positive_text" not in {finding.name for finding in audit(mined, corpus=job[1]).findings}
    found = {finding.name: finding for finding in audit(mined.map(planted, with_indices=True)).findings}
    assert found["positive_text"].rows == 5


def test_reports_pages_and_plans_of_images(job, mined, tmp_path):
    assert report(mined).negatives == 60
    page = audit(mined).html(tmp_path / "page.html")
    assert "image:" in page.read_text()
    report(mined).html(tmp_path / "report.html")
    assert plan(*job, "dense", encoder=pixels).rows == 20


def test_single_images_are_called_by_their_names_in_reports_on_cards_and_the_command_line(mined, tmp_path, capsys):
    features = Features({**mined.features, "positive": Image()})
    single = mined.map(lambda row: {"positive": row["positive"][0]}, features=features)
    queries, positives = ([named(saved(image)) for image in single[side]] for side in ("query", "positive"))
    examples = report(single).pictured.examples
    assert examples
    assert [each.query for each in examples] == [queries[each.row] for each in examples]
    assert [each.positive for each in examples] == [positives[each.row] for each in examples]
    card = figures.examples(single, "query", "positive")
    assert [lines.split()[1] for lines in card] == queries[:3]
    deliver(single, Saving(out=str(tmp_path / "rows")), None)
    assert f"positive   {positives[0]}" in capsys.readouterr().out


def test_a_review_shows_images_by_their_names(mined, tmp_path):
    log = VerdictLog(tmp_path / "verdicts.jsonl")
    shown = ShownRows.of(mined, None, log).shown(0)
    log.close()
    assert named(saved(mined[0]["query"])) in str(shown)
    assert ["".join(run[0] for run in each["runs"]) for each in shown["negatives"]] == mined[0]["negatives"]


def test_names_are_never_read_as_words(mined, tmp_path):
    names = mined[0]["negatives"]
    scorer = load_cross_encoder(str(cross_encoder(tmp_path / "reranker")), cache_dir=tmp_path)
    with pytest.raises(ConfigError, match="reads texts, and got images"):
        scorer.score(["a caption"] * 3, names)
    with pytest.raises(ConfigError, match="reads texts, and got images"):
        audit(mined, judge=str(tmp_path / "reranker"))
    with pytest.raises(ConfigError, match="shared_words reads texts, and got images"):
        audit(mined, judge=shared_words)
    row = {"query": "a caption", "positive": "a text", "negatives": names}
    with pytest.raises(ConfigError, match="CrossBatchCollator reads texts, and got images"):
        CrossBatchCollator(AutoTokenizer.from_pretrained(MINILM))([row])
