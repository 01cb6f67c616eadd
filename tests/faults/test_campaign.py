"""A tenth of the campaign runs with the suite; the whole is `python -m tests.faults.campaign --seed N`."""

import json

import pytest

from tests.faults.campaign import Row, failures, main, rows

pytestmark = pytest.mark.slow

SHARE, SEED = 0.1, 0


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row.name)
def test_a_tenth_of_the_campaign_fails_nowhere(row):
    if reason := row.unavailable():
        pytest.skip(reason)
    assert list(failures(row, SEED, max(1, round(row.trials * SHARE)))) == []


def test_what_failed_is_counted_shown_and_ends_with_a_code(monkeypatch, capsys, tmp_path):
    def trial(random, folder):
        return f"{folder.is_dir()}" if random.integers(2) else None

    unlucky, table = Row("odd numbers", 4, trial, figures=lambda: "2 s"), tmp_path / "table.json"
    table.write_text('{"another": {}}')
    monkeypatch.setattr("tests.faults.campaign.rows", lambda: iter([unlucky]))
    failed = len(list(failures(unlucky, 3, 4)))
    assert main(["--seed", "3", "--table", str(table)]) == 1
    printed = capsys.readouterr().out
    assert 0 < failed < 4
    assert printed.split("\n")[1].split()[-5:] == ["4", str(4 - failed), str(failed), "2", "s"]
    assert printed.count("seed 3, trial") == failed
    counts = {"seed": 3, "tried": 4, "survived": 4 - failed, "failed": failed, "figures": "2 s"}
    assert json.loads(table.read_text()) == {"another": {}, "odd numbers": counts}
