"""What a job costs over several machines, worked out by hand from laws of cost."""

import json
from pathlib import Path

import pytest

from hf_hardneg.cli import main
from hf_hardneg.errors import ConfigError
from hf_hardneg.planning import shared_plans
from hf_hardneg.planning.costs import Law, Stage
from hf_hardneg.planning.plans import Plan
from hf_hardneg.planning.shared_plans import SharedPlan
from tests.worlds import world


def by_hand(**changes):
    stages = (
        Stage(name="load libraries", wall=Law(fixed=3), basis="a"),
        Stage(name="read corpus", wall=Law(document=0.001), basis="a"),
        Stage(name="text keys", wall=Law(document=0.002), disk=Law(document=100), basis="a"),
        Stage(name="encode corpus", wall=Law(document=0.05), basis="a"),
        Stage(name="build index", wall=Law(document=0.01), memory=Law(document=50), disk=Law(document=8), basis="a"),
        Stage(name="known positives", wall=Law(row=0.001), disk=Law(row=20), basis="a"),
        Stage(name="search", wall=Law(pair=1e-3), memory=Law(row=7), disk=Law(row=9), basis="b", in_workers=True),
    )
    fields = {"recipe": "r", "documents": 1000, "rows": 500, "num_proc": 1, "stages": stages, "held": 10}
    return Plan(**{**fields, "cache": Path("/"), "text_bytes": 50_000, "measured": (100, 50), **changes})


def test_what_is_done_once_by_each_and_together():
    shared = SharedPlan(plan=by_hand(), machines=10)
    assert shared.each == pytest.approx(3 + 1) and shared.once == pytest.approx(2 + 10 + 0.5)
    assert shared.shared == pytest.approx(50 + 500)
    assert shared.seconds == pytest.approx(4 + 12.5 + 55)
    assert shared.index == 8000 and shared.network == 10 * (100_000 + 8000 + 10_000 + 50_000)


def test_a_plan_for_a_billion_documents_says_what_it_needs_and_is_extrapolated_from(monkeypatch):
    monkeypatch.setattr(shared_plans, "_memory", lambda: 2 * 10**9)
    shared = SharedPlan(plan=by_hand().at(documents=10**9, rows=10**7), machines=100)
    lines = dict(line.strip().split("  ", 1) for line in str(shared).splitlines()[2:])
    lines = {name: words.strip() for name, words in lines.items()}
    assert (
        str(shared).splitlines()[1].startswith("1,000,000,000 documents, 10,000,000 pairs on 100 machines of 1 process")
    )
    assert shared.index_parts == 8
    assert lines["index"] == "8.0 GB; index_parts=8 keeps a part within half of the 2.0 GB here"
    assert lines["network"] == "15,820.0 GB: every machine reads texts, keys and the index once"
    assert lines["disk"] == "108.3 GB in the cache that all see"
    assert "100 of 1,000,000,000 documents and 50 of 10,000,000 pairs; weak: 10,000,000 times" in lines["known from"]


def test_machines_are_a_number():
    for wrong in (0, -1, 1.5, "many"):
        with pytest.raises(ConfigError, match="machines"):
            SharedPlan(plan=by_hand(), machines=wrong)


def test_on_the_command_line(tmp_path, capsys):
    for name, data in zip(("pairs", "corpus"), world(1), strict=True):
        data.to_parquet(tmp_path / f"{name}.parquet")
    files = [f"--{name}={tmp_path}/{name}.parquet" for name in ("pairs", "corpus")]
    command = ["plan", *files, "--strategy=bm25", f"--cache-dir={tmp_path}/cache"]
    sizes = ["--documents=100000000", "--rows=1000000", "--machines=64"]
    assert main([*command, *sizes]) == 0
    shown = capsys.readouterr().out
    assert "100,000,000 documents, 1,000,000 pairs on 64 machines" in shown and "weak: " in shown
    assert main([*command, *sizes, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["machines"] == 64 and told["documents"] == 10**8 and told["network"] > 64 * 10**8
    assert told["seconds"] == pytest.approx(told["once"] + told["each"] + told["shared"] / 64)
    assert main([*command, "--documents=1000", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == 1000
