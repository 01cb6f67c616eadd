"""What commands print: JSON alone with `--json`, little with `-q`, versions and help; and options of several values."""

import json
import subprocess
import sys

import pytest
from datasets import load_from_disk

import hf_hardneg
from hf_hardneg.cli import main
from hf_hardneg.cli.commands import COMMANDS, spread
from hf_hardneg.cli.terminal import plain_of, written
from tests.test_cli import run, saved


def of_json(capsys, *arguments, status=0):
    assert main([*arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def mined(tmp_path, capsys):
    run(
        capsys,
        "mine",
        *saved(tmp_path),
        "--strategy=bm25",
        f"--cache-dir={tmp_path}/indexes",
        f"--out={tmp_path}/mined",
    )
    return str(tmp_path / "mined")


@pytest.mark.slow
def test_results_as_json(mined, tmp_path, capsys):
    files, where = saved(tmp_path), f"--cache-dir={tmp_path}/indexes"
    said = of_json(capsys, "mine", *files, where, "--strategy=bm25", f"--out={tmp_path}/again")
    assert said["rows"] == 36 and said["report"]["negatives"] == 144 and said["format"] == "list"
    assert of_json(capsys, "report", mined)["funnel"] == said["report"]["funnel"]
    lines = of_json(capsys, "sweep", *files, where, "--strategy=bm25", "--try", "relative_margin=0.0,0.5")
    assert [line["filters"] for line in lines] == [["RelativeMargin(margin=0.0)"], ["RelativeMargin(margin=0.5)"]]
    assert of_json(capsys, "plan", *files, where, "--strategy=bm25")["documents"] == 60
    assert of_json(capsys, "index", files[1], where)["reused"] is True
    entries = of_json(capsys, "cache", "ls", where)["entries"]
    assert {"bm25", "candidates", "negatives"} <= {entry["kind"] for entry in entries}
    assert of_json(capsys, "cache", "verify", where)["directories"][0]["damage"] == ""
    assert of_json(capsys, "audit", mined)["ok"] is True
    assert of_json(capsys, "export", mined, "--format=triplet", f"--out={tmp_path}/triplets")["rows"] == 144
    assert of_json(capsys, "cache", "prune", where, "--all", "--dry-run")["dry_run"] is True


def test_json_may_stand_before_the_command(mined, capsys):
    assert main(["--json", "report", mined]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 36
    assert main(["report", mined]) == 0
    assert capsys.readouterr().out.startswith("36 rows, 144 negatives")


def test_values_as_json_are_ascii_and_finite():
    text = written({"a\x7f\x1b": float("nan"), "b": (1, {2.5}), "c": "é\u202e"})
    assert text.isascii() and text.replace("\n", "").isprintable()
    assert json.loads(text) == {"a\x7f\x1b": None, "b": [1, [2.5]], "c": "é\u202e"}
    assert plain_of(range) == str(range)


def test_quiet_prints_the_result_alone(tmp_path, capsys):
    arguments = ["mine", *saved(tmp_path), "--strategy=bm25", f"--cache-dir={tmp_path}/indexes", "-q"]
    assert main([*arguments, f"--out={tmp_path}/out"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("Written to ") and captured.out.count("\n") == 1 and captured.err == ""


def test_report_sweep_and_export_say_what_the_library_says(mined, tmp_path, capsys):
    from hf_hardneg import report

    rows = load_from_disk(mined)
    assert run(capsys, "report", mined).startswith(f"{report(rows)}\n")
    run(capsys, "export", mined, "--format=triplet", f"--out={tmp_path}/triplets")
    assert load_from_disk(str(tmp_path / "triplets")).column_names == ["query", "positive", "negative"]
    assert main(["export", mined, "--format=triplet", f"--out={tmp_path}/triplets"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    sweep = ["sweep", *saved(tmp_path), "--strategy=bm25", f"--cache-dir={tmp_path}/indexes"]
    assert len(run(capsys, *sweep, "--try", "relative_margin=0.0,0.5", "rank_window=0,3").splitlines()) == 5
    for trial in ("relative_margin", "relative_margin=", "relative_margin=&a"):
        assert main([*sweep, "--try", trial]) == 2
        assert "--try" in capsys.readouterr().err


def test_version_help_and_no_command(capsys):
    assert run(capsys, "--version") == f"hf-hardneg {hf_hardneg.__version__}\n"
    shown = run(capsys, "--help")
    assert all(f"\n  {name.split()[0]} " in shown for name, _ in COMMANDS)
    assert main([]) == 2
    captured = capsys.readouterr()
    assert "Usage: hf-hardneg" in captured.out + captured.err
    for name, _ in COMMANDS:
        assert "--json" in run(capsys, *name.split(), "--help")


def test_arguments_that_do_not_exist_are_refused_with_the_way_out(capsys):
    for arguments, said in ((["mien"], "mine"), (["mine", "--parquet=x"], "--parquet"), (["report"], "mined")):
        assert main(arguments) == 2
        shown = capsys.readouterr().err
        assert said in shown and "error: " in shown and "--help" in shown


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ("--columns a=b c=d --out x", "--columns a=b --columns c=d --out x"),
        ("--columns a=b --columns c=d e=f", "--columns a=b --columns c=d --columns e=f"),
        ("--columns=a=b file", "--columns=a=b file"),
        ("file --out x y", "file --out x y"),
        ("--columns a -q b", "--columns a -q b"),
        ("--columns", "--columns"),
    ],
)
def test_an_option_takes_several_values(arguments, read):
    assert list(spread(arguments.split(), {"--columns"})) == read.split()


def test_help_loads_nothing_heavy():
    heavy = ("torch", "transformers", "datasets", "pandas", "pyarrow", "numba", "numpy", "faiss", "rich")
    code = (
        "import sys; from hf_hardneg.cli import main; main(['--help']); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).endswith("[]\n")
