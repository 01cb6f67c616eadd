"""Every example in a docstring runs in the small world below, and prints what it says.

An example may use the public names of the package and its rooms, and what the fixture `names` gives.
"""

import ast
import doctest
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from torch.utils.data import DataLoader

import hf_hardneg
import hf_hardneg.audits
import hf_hardneg.compat
import hf_hardneg.generate
import hf_hardneg.hub
import hf_hardneg.models
import hf_hardneg.training
from hf_hardneg import mine
from hf_hardneg.audits.verdict_log import HumanVerdict
from hf_hardneg.training import Refresher, cross_batch_loss
from tests.models.test_encoder import tiny

pytestmark = pytest.mark.slow

PACKAGE = Path(hf_hardneg.__file__).parent
DOCUMENTS = {
    "rayleigh": "The sky is blue because air scatters the short waves of sunlight more than the long ones.",
    "sunset": "The sky is red at sunset because the light crosses more air, which scatters the blue out of it.",
    "sea": "The sea is blue because water absorbs red light first.",
    "blue whale": "The blue whale is the largest animal that has ever lived.",
    "mars": "The sky of Mars is red by day and blue at sunset.",
    "moon": "The moon pulls the sea towards it, and so makes the tides.",
    "tides": "High tides come twice a day, because the earth turns below two bulges of the sea.",
    "eclipse": "The moon hides the sun in an eclipse, and the day turns dark.",
    "year": "A year is the time in which the earth goes round the sun.",
    "day": "A day is the time in which the earth turns once.",
    "bread": "Yeast makes bread rise, because it turns sugar into gas.",
    "soda": "Baking soda makes a cake rise without yeast.",
    "salt": "The sea is salt because rivers carry salt out of rocks.",
}
QUERIES = {
    "why is the sky blue": "rayleigh",
    "what makes the tides of the sea": "moon",
    "how long is a day": "day",
    "what makes bread rise": "bread",
}


def docstrings():
    """Every docstring with an example."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        yield from documented(ast.parse(path.read_text()), module.removesuffix(".__init__"))


def documented(node, name):
    text = ast.get_docstring(node)
    if text and "Example:" in text:
        yield pytest.param(text, id=name)
    for child in node.body:
        if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
            yield from documented(child, f"{name}.{child.name}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where examples run: the Hub id that they name is a path here, of a tiny model."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "sentence-transformers").mkdir()
    _, model = tiny(folder)
    (folder / "sentence-transformers/all-MiniLM-L6-v2").symlink_to(model)
    return folder


@pytest.fixture
def names(folder, tmp_path, monkeypatch, request):
    """What examples may use. They are run by `user`, who is known on the Hub of the tests."""
    monkeypatch.chdir(tmp_path)
    if request.node.callspec.id.startswith("hub."):
        monkeypatch.setenv("HF_TOKEN", "hf_secretOfUser")
        request.getfixturevalue("running").mend()
    (tmp_path / "sentence-transformers").symlink_to(folder / "sentence-transformers")
    corpus = Dataset.from_dict({"_id": list(DOCUMENTS), "text": list(DOCUMENTS.values())})
    pairs = Dataset.from_dict({"query": list(QUERIES), "positive_ids": [[one] for one in QUERIES.values()]})
    model = SentenceTransformer(str(folder / "model"), device="cpu")

    def encode(texts):
        return model(model.preprocess(texts))["sentence_embedding"]

    def loss_of(rows):
        queries, positives = encode([row["query"] for row in rows]), encode([row["positive"][0] for row in rows])
        return cross_batch_loss(queries, positives, torch.stack([encode(row["negatives"]) for row in rows]))

    accelerator = Accelerator(cpu=True)
    refresher = Refresher(
        pairs, corpus, encoder=model, directory="negatives", num_negatives=2, on_shortage="pad_random"
    )
    loader = DataLoader(pairs.with_transform(refresher.negatives), batch_size=2, collate_fn=list)
    packages = (
        hf_hardneg,
        hf_hardneg.audits,
        hf_hardneg.compat,
        hf_hardneg.generate,
        hf_hardneg.models,
        hf_hardneg.training,
        hf_hardneg.hub,
    )
    public = {name: getattr(package, name) for package in packages for name in package.__all__}
    said = {"sunset": 0, "mars": 1}
    lines = [verdict(next(iter(QUERIES)), document, score) for document, score in said.items()]
    (tmp_path / "verdicts.jsonl").write_bytes(b"".join(lines))
    yield public | {
        "corpus": corpus,
        "pairs": pairs,
        "mined": mine(pairs, corpus, num_negatives=2),
        "model": model,
        "tokenizer": model.tokenizer,
        "encode": encode,
        "loss_of": loss_of,
        "optimizer": torch.optim.AdamW(model.parameters(), lr=1e-4),
        "accelerator": accelerator,
        "refresher": refresher,
        "loader": accelerator.prepare(loader),
    }
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def verdict(query, document, score):
    """A line of a person's verdict on a document."""
    texts = {"query": query, "document": DOCUMENTS[document]}
    return HumanVerdict(query_id=query, corpus_id=document, score=score, row=0, place=0, **texts).line()


@pytest.mark.filterwarnings("ignore")  # trainers have many warnings
@pytest.mark.parametrize("text", docstrings())
def test_an_example_runs(text, names):
    example = doctest.DocTestParser().get_doctest(text, names, "example", None, 0)
    assert example.examples
    shown = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    if runner.run(example, out=shown.append).failed:
        pytest.fail("".join(shown), pytrace=False)
