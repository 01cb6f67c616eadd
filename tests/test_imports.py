import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import hf_hardneg
import hf_hardneg.hub
import hf_hardneg.training

PACKAGE = Path(hf_hardneg.__file__).parent
LAYERS = [
    {"terminal"},
    {"errors", "masking", "regular_files", "blake2", "arrays", "process", "costs", "diagnostics"},
    {"pages", "versions", "hardness", "compiled"},
    {"encodings", "disk", "arguments", "index.locks"},
    {"optional", "draws", "charts", "ids", "index.manifests", "index.owners", "index.leases"},
    {"identity.origins", "identity.references", "identity.foreign"},
    {"identity.digests"},
    {"identity.identities"},
    {"identity"},
    {"progress", "candidates", "batches", "strings", "index.store", "index.hits", "index.words", "index.porter"},
    {"index.stored_arrays", "index.arrow_files", "index.named_files"},
    {"corpus", "index.inventory", "workers"},
    {"positives", "index.analysis"},
    {"queries"},
    {"index.exact", "index.bm25_kernel", "index.bm25_weights", "index.vocabulary"},
    {"index.bm25_build", "index.gpu"},
    {"index.bm25_checks"},
    {"index.dense", "index.bm25"},
    {"index.approximate"},
    {"index.adopted"},
    {"index.adoption"},
    {"encode.model_files", "encode.packed", "encode.live", "encode.ranks", "encode.shards"},
    {"encode.forward", "encode.families", "encode.live_settings"},
    {"encode.modules"},
    {"encode.encoder", "score.scorers"},
    {"score.folds", "score.late_interaction"},
    {"encode.embeddings", "score.cross_encoder", "score.store"},
    {"index.search"},
    {"index.attach"},
    {"retrievers.base"},
    {"retrievers.bm25", "retrievers.dense", "retrievers.random"},
    {"retrievers.hybrid"},
    {"retrievers"},
    {"signals"},
    {"topics"},
    {"unremix"},
    {"filters"},
    {"samplers.base"},
    {"samplers.weighted", "samplers.top", "samplers.uniform", "samplers.rank_zone", "samplers.topic_negatives"},
    {"samplers.simans", "samplers.importance", "samplers.distance_weighted", "samplers.unremix"},
    {"samplers", "denoising"},
    {"strategies", "exclusion", "sides"},
    {"retrieval"},
    {"filtering"},
    {"rescoring"},
    {"padding"},
    {"selection"},
    {"negatives"},
    {"training.gather", "training.similarity", "training.gradcache", "training.background"},
    {"training.documents", "training.guidance", "training.mixing"},
    {"training.losses", "training.distillation", "training.ranking", "training.collator", "training.topics"},
    {"training.schedule", "training.snapshots", "training.negative_arrays", "training.row_keys", "training.adore"},
    {"training.generations"},
    {"training.newest"},
    {"training.refresh"},
    {"training.asynchronous"},
    {"training.accelerate", "training.trainer", "training.lightning"},
    {"serialization", "recipe_text"},
    {"provenance"},
    {"probes", "steps", "recipes"},
    {"jobs"},
    {"plans"},
    {"generate.prompts", "generate.transport", "generate.replies", "generate.generators", "generate.scorers"},
    {"generate.endpoint", "generate.validation"},
    {"estimates", "verification"},
    {"mining", "reports", "demo", "inputs", "generate.llm", "formats.rows"},
    {"outputs"},
    {"metrics.ranking", "metrics.judgements", "metrics.hardness.hardness"},
    {"metrics.retrieval.retrieval", "metrics.false_negative_rate.false_negative_rate"},
    {"metrics.alignment_uniformity.alignment_uniformity"},
    {"formats.roles"},
    {"formats.sentence_transformers", "formats.inline", "formats.by_id", "formats.tables", "formats.merging"},
    {"formats.layouts", "formats.beir"},
    {"formats.fitting", "formats.scores"},
    {"formats.exporting", "formats.files"},
    {"formats.importing"},
    {"formats"},
    {"audits.keys"},
    {"audits.lookups"},
    {"audits.rows"},
    {"audits.facts", "audits.judging", "audits.sources"},
    {"audits.finders"},
    {"audits.checks"},
    {"audits.findings"},
    {"audits.page", "audits.collecting"},
    {"audits.report"},
    {"audits.auditing"},
    {"audits"},
    {"sweeps", "score.training"},
    {"hub.inert", "hub.front_matter", "hub.limits", "hub.losses", "hub.repository", "hub.shards", "hub.variants"},
    {"hub.figures"},
    {"hub.card"},
    {"hub.push"},
    {"hub.reproduction"},
    {"hub"},
    {"cli"},
]
"""From the bottom up; a module may import only from layers below its own."""

HEAVY = ("torch", "transformers", "faiss", "sentence_transformers", "datasets", "pandas", "bm25s", "numba", "pyarrow")


def modules():
    found = pkgutil.walk_packages([str(PACKAGE)], "hf_hardneg.")
    return sorted(one.name.removeprefix("hf_hardneg.") for one in found if not one.ispkg)


def imported(module):
    tree = ast.parse((PACKAGE / (module.replace(".", "/") + ".py")).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_hardneg"):
            name = node.module.removeprefix("hf_hardneg").lstrip(".")
            nested = [f"{name}.{alias.name}" for alias in node.names if f"{name}.{alias.name}" in modules()]
            yield from nested or [name]


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_from_below(module):
    layer = next(number for number, names in enumerate(LAYERS) if module in names)
    below = set().union(*LAYERS[:layer])
    assert set(imported(module)) - below <= set()


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, hf_hardneg; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_mining_with_bm25_loads_no_torch_transformers_or_faiss():
    code = (
        "import sys; from hf_hardneg import HardNegatives, mine; "
        "print([name for name in ('torch', 'transformers', 'faiss', 'sentence_transformers') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("package", [hf_hardneg, hf_hardneg.hub, hf_hardneg.training])
def test_every_public_name_resolves_and_is_documented(package):
    for name in package.__all__:
        assert getattr(package, name).__doc__
    assert list(package.__all__) == sorted(package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Minecraft'"):
        _ = package.Minecraft


def test_only_gathering_talks_to_other_ranks():
    users = [path.stem for path in PACKAGE.glob("training/*.py") if "import torch.distributed" in path.read_text()]
    assert users == ["gather"]
