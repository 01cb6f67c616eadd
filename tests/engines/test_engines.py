"""Ray, Spark, Dask and Daft give the rows of `mine`, to the byte of the columns, also where a worker is killed."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from datasets import load_from_disk

import hf_hardneg
from hf_hardneg import HardNegatives, demo
from hf_hardneg.errors import ConfigError, DataError, HardNegWarning, UnknownNameError
from tests.engines.jobs import check, data, same
from tests.retrievers.stores.servers import fetched
from tests.worlds import world

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """What workers import is this tree, and its tests."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def on_page(engine):
    """The block of an engine in the guide."""
    section = (ROOT / "docs/many_machines.md").read_text().partition(f"\n### {engine}\n")[2].partition("\n###")[0]
    return re.findall(r"```py\n(.*?)```", section, re.DOTALL)[0]


def run_page(engine):
    """Run the block of an engine over documents that take no seconds to read."""
    names = {}
    with patch.object(demo, "standard_library", lambda: world(0, documents=120, queries=70)):
        exec(on_page(engine), names)
    rows = names["mined"]
    assert len(rows) == 200 and all(len(negatives) <= 3 for negatives in rows["negatives"]) and rows[0]["negatives"]
    return names


def test_ray(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'hf-hardneg[ray]'")
    from hf_hardneg.engines.base import mined_on, rows_out
    from hf_hardneg.engines.ray import RayActors, _tables, mine

    monkeypatch.setenv("RAY_worker_niceness", "0")  # else its workers wait for every other test
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(num_cpus=2, object_store_memory=10**8, **quiet)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        pairs, corpus = data()
        rows = ray.data.from_arrow(pairs.data.table.combine_chunks()).repartition(5)
        taken_out = rows_out([rows], _tables, "Ray", {"cache_dir": tmp_path})[0]
        assert taken_out.to_list() == pairs.to_list()
        with RayActors(workers=2, num_cpus=1, num_gpus=0) as actors:
            check(
                lambda corpus, *job, **how: mined_on(actors, (taken_out, corpus), *job, None, how),
                tmp_path,
                ("dense", "encoded", "denoised"),
            )
        miner = HardNegatives(corpus, "bm25", num_negatives=3, cache_dir=tmp_path)
        by_hand = rows.map_batches(miner, batch_format="pyarrow").take_all()
        assert sorted(map(str, (row["negative_ids"] for row in by_hand))) == sorted(
            map(str, miner(pairs.data.table)["negative_ids"].to_pylist())
        )
        assert run_page("Ray")["again"].count() == 200
        monkeypatch.syspath_prepend(ROOT / "examples")
        for name, split in (("pairs", pairs), ("corpus", corpus)):
            split.to_parquet(tmp_path / f"{name}.parquet")
        said = {
            "pairs": "pairs.parquet",
            "corpus": "corpus.parquet",
            "cache-dir": "there",
            "out": "out",
            "workers": "1",
        }
        importlib.import_module("mine_on_ray").main([part for name in said for part in (f"--{name}", said[name])])
        same(load_from_disk("out"), hf_hardneg.mine(pairs, corpus, cache_dir=tmp_path / "here"))
        with pytest.raises(UnknownNameError, match=r"ray\.mine\(\) 'num_proc'"):
            mine(rows, corpus, num_proc=2)
    finally:
        ray.shutdown()


def test_spark(tmp_path, monkeypatch):
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java, and there is none on the PATH: apt-get install openjdk-17-jre-headless")
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed: pip install 'hf-hardneg[spark]'")
    from hf_hardneg.engines.spark import mine, schema

    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    said = {"spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
    said |= {"spark.log.level": "OFF", "spark.sql.codegen.wholeStage": "false", "spark.sql.shuffle.partitions": "2"}
    said |= {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}  # compiles little
    spark = sql.SparkSession.builder.master("local[2]").config(map=said).getOrCreate()
    try:
        pairs, corpus = data()
        table = pairs.data.table.combine_chunks()
        rows = spark.createDataFrame(table)
        check(
            lambda corpus, *job, **how: mine(rows, corpus, *job, workers=2, **how),
            tmp_path,
            ("bm25", "dense", "denoised"),
        )
        miner = HardNegatives(corpus, "bm25", num_negatives=3, cache_dir=tmp_path)
        expected, kind = miner(table), schema(miner, rows)
        assert rows.mapInArrow(miner, kind).toArrow().to_pylist() == expected.to_pylist()
        assert rows.mapInPandas(miner, kind).toArrow().to_pylist() == expected.to_pylist()
        assert run_page("Spark")["frame"].count() == 200
        with pytest.raises(DataError, match="no rows"):
            mine(rows.filter("query = 'nobody'"), corpus, cache_dir=tmp_path)
        with pytest.raises(ConfigError, match="needs a DataFrame of Spark"):
            schema(miner, table)
    finally:
        spark.stop()


def test_dask(tmp_path):
    distributed = pytest.importorskip("distributed", reason="dask is not installed: pip install 'hf-hardneg[dask]'")
    import dask
    from dask import dataframe

    from hf_hardneg.engines.base import rows_out
    from hf_hardneg.engines.dask import _tables, meta, mine

    pairs, corpus = data()
    with dask.config.set({"dataframe.convert-string": False}):  # else it writes lists as texts
        rows = dataframe.from_pandas(pairs.to_pandas(), npartitions=3, sort=False)
    with pytest.raises(ConfigError, match="no client of a cluster"):
        mine(rows, corpus, cache_dir=tmp_path)
    emptied = pairs.to_pandas()
    emptied.loc[: len(pairs) // 2, "positive_ids"] = emptied["positive_ids"].map(lambda _: [])
    with dask.config.set({"dataframe.convert-string": False}):
        partly = dataframe.from_pandas(emptied, npartitions=3, sort=False)
    taken_out = rows_out([partly], _tables, "Dask", {"cache_dir": tmp_path})[0]
    assert taken_out["positive_ids"][:] == [list(ids) for ids in emptied["positive_ids"]]
    written = dataframe.from_pandas(pairs.to_pandas(), npartitions=3, sort=False)
    with pytest.warns(HardNegWarning, match="'positive_ids' holds texts such as .* Dask writes the lists"):
        next(_tables(written))
    node = tmp_path / "node"
    at_node = {"HF_DATASETS_CACHE": str(node)}
    with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None, env=at_node):
        check(lambda corpus, *job, **how: mine(rows, corpus, *job, **how), tmp_path, ("bm25", "dense", "denoised"))
        assert not node.exists()
        shared = {"shared": f"file://{tmp_path}/shared", "cache_dir": tmp_path / "mirrored"}
        mined = mine(rows, corpus, num_negatives=3, **shared)
        miner = HardNegatives(corpus, "bm25", num_negatives=3, cache_dir=tmp_path)
        by_hand = rows.map_partitions(miner, meta=meta(miner, rows)).compute()
        expected = miner(pairs.data.table)["negative_ids"].to_pylist()
        assert len(run_page("Dask")["frame"].compute()) == 200
        assert [list(ids) for ids in by_hand["negative_ids"]] == expected
    assert len(mined) == len(pairs)
    kinds = {path.name.partition("-")[0] for path in (node / "hf_hardneg").iterdir() if path.name[0] != "."}
    assert {"bm25", "corpus", "keys", "positives"} <= kinds


def test_daft(tmp_path):
    """Daft asks for pyarrow below 26, so that it stands beside ours in a folder of its own, and works all the same."""
    code = (
        "import daft, sys, warnings; from pathlib import Path; warnings.simplefilter('ignore')\n"
        "from hf_hardneg.engines.daft import mine\n"
        "from hf_hardneg.errors import WorkerError\n"
        "from tests.engines.jobs import check, data\n"
        "rows, killed = daft.from_arrow(data()[0].data.table), []\n"
        "def run(corpus, *job, **how):\n"
        "    try:\n"
        "        return mine(rows, corpus, *job, workers=2, **how)\n"
        "    except WorkerError:\n"
        "        killed.append(job)\n"
        "        return mine(rows, corpus, *job, workers=2, **how)\n"
        "check(run, Path(sys.argv[1]), ('bm25', 'dense', 'denoised'))\n"
        "assert len(killed) == 1\n"
        "from tests.engines.test_engines import run_page; run_page('Daft')"
    )
    paths = os.pathsep.join([str(fetched("daft==0.7.26")), os.environ["PYTHONPATH"]])
    run = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(run, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
