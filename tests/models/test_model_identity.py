"""Whatever changes what a model returns changes its digest, and nothing else does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import normalizers
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizerFast

from hf_hardneg.errors import HardNegWarning, ModelError
from hf_hardneg.models.cross_encoder import load_cross_encoder
from hf_hardneg.models.encoder import load_encoder
from hf_hardneg.models.modules import SentenceTransformerEncoder

pytestmark = pytest.mark.slow

TEXTS = ["Basalt is Dark rock", "", "ÉTÉ lava flows over older lava", " ".join(f"stone{n}" for n in range(40))]
QUERIES = ["dark Rock", "LAVA", "what is basalt", "a"]


def small_body(place, kind, **settings):
    """A BERT of two layers that knows letters and a few words, with its tokenizer."""
    torch.manual_seed(0)
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{one}" for one in letters),
        "lava",
        "rock",
    ]
    place.mkdir(parents=True)
    (place / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(str(place / "vocab.txt"), do_lower_case=True).save_pretrained(place)
    (place / "vocab.txt").unlink()
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(
        vocab_size=len(vocabulary), max_position_embeddings=128, initializer_range=0.3, **size, **settings
    )
    kind(config).eval().save_pretrained(place)
    return str(place)


def small(place, extra=()):
    """The folder of a SentenceTransformer of such a body, and beside it the body's."""
    body = Transformer(small_body(place / "base", BertModel), max_seq_length=64)
    SentenceTransformer(modules=[body, Pooling(32), *extra], device="cpu").save(str(place / "model"))
    return place / "model"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def reranker(tmp_path_factory):
    return small_body(tmp_path_factory.mktemp("small") / "reranker", BertForSequenceClassification, num_labels=1)


def dense(model, activation):
    torch.manual_seed(1)
    layer = Dense(32, 8, activation_function=activation)
    model.append(layer)


def larger(model):
    torch.manual_seed(2)
    model.tokenizer.add_tokens(["basalt"])
    model[0].auto_model.resize_token_embeddings(len(model.tokenizer), mean_resizing=False)


def shift(model, name):
    with torch.no_grad():
        next(weight for key, weight in model.named_parameters() if name in key).mul_(1.5)


def capitals(model):
    model.tokenizer.backend_tokenizer.normalizer = normalizers.NFC()


ENCODERS = {
    "8 dimensions": lambda m: setattr(m, "truncate_dim", 8),
    "16 dimensions": lambda m: setattr(m, "truncate_dim", 16),
    "shorter": lambda m: setattr(m, "max_seq_length", 5),
    "cut at the left": lambda m: setattr(m.tokenizer, "truncation_side", "left"),
    "a query prompt": lambda m: m.prompts.update(query="find: "),
    "a document prompt": lambda m: m.prompts.update(document="text: "),
    "an unused prompt": lambda m: m.prompts.update(other="text: "),
    "another pooling": lambda m: setattr(m[1], "pooling_mode", "cls"),
    "unit length": lambda m: m.append(Normalize()),
    "a dense layer": lambda m: dense(m, torch.nn.Tanh()),
    "its activation": lambda m: dense(m, torch.nn.Identity()),
    "embeddings": lambda m: shift(m, "word_embeddings"),
    "positions": lambda m: shift(m, "position_embeddings"),
    "a bias": lambda m: shift(m, "LayerNorm.weight"),
    "halves": lambda m: m.half(),
    "bfloat16": lambda m: m.to(torch.bfloat16),
    "an added token": larger,
    "capitals": capitals,
    "a length in its settings": lambda m: m[0].processing_kwargs.update(text={"max_length": 7}),
    "pooling without the prompt": lambda m: (m.prompts.update(query="find: "), setattr(m[1], "include_prompt", False)),
    "no dropout": lambda m: [setattr(x, "p", 0.0) for x in m.modules() if isinstance(x, torch.nn.Dropout)],
    "another similarity": lambda m: setattr(m, "similarity_fn_name", "dot"),
    "in training": lambda m: m.train(),
    "used": lambda m: (m.encode(["a"]), m.tokenizer(["a b c"], truncation=True, max_length=3, padding="max_length")),
}
RERANKERS = {
    "shorter": lambda m: setattr(m, "max_seq_length", 9),
    "cut at the left": lambda m: setattr(m.tokenizer, "truncation_side", "left"),
    "a prompt": lambda m: (m.prompts.update(ask="is it: "), setattr(m, "default_prompt_name", "ask")),
    "an unused prompt": lambda m: m.prompts.update(ask="is it: "),
    "its head": lambda m: shift(m, "classifier.weight"),
    "embeddings": lambda m: shift(m, "word_embeddings"),
    "halves": lambda m: m.half(),
    "capitals": capitals,
    "logits": lambda m: setattr(m, "activation_fn", torch.nn.Identity()),
    "in training": lambda m: m.train(),
    "used": lambda m: (m.predict([("a", "b")]), m.tokenizer(["a b"], truncation=True, max_length=3)),
}


def test_prompts_that_are_not_used_are_told_once_of_a_live_model(tmp_path, folder):
    model = SentenceTransformer(str(folder), device="cpu", prompts={"passage": "text: "})
    with pytest.warns(HardNegWarning, match="that encoder= got, a SentenceTransformer, has the prompts 'passage'") as w:
        load_encoder(model, cache_dir=tmp_path)
        load_encoder(model, cache_dir=tmp_path)
    assert len({str(warning.message) for warning in w}) == 1


def own_vectors(model):
    return np.concatenate([model.encode_query(QUERIES), model.encode_document(TEXTS)]).astype(np.float32)


def own_scores(model):
    pairs = list(zip(QUERIES, TEXTS, strict=True))
    return model.predict(pairs, activation_fn=torch.nn.Identity()).astype(np.float32)


def open_encoder(place, change, cache):
    """The digest of a changed live model, its own vectors, and those of the encoder."""
    model = SentenceTransformer(str(place), device="cpu")
    change(model)
    encoder = load_encoder(model, cache_dir=cache)
    assert load_encoder(model, cache_dir=cache).digest == encoder.digest
    found = [encoder.encode(QUERIES, kind="query"), encoder.encode(TEXTS, kind="document")]
    return encoder.digest, own_vectors(model), np.concatenate(found)


def open_reranker(place, change, cache):
    model = CrossEncoder(str(place), device="cpu", max_length=64)
    change(model)
    scorer = load_cross_encoder(model, cache_dir=cache)
    return scorer.digest, own_scores(model), scorer.score(QUERIES, TEXTS)


FAMILIES = {"encoder": (ENCODERS, open_encoder), "reranker": (RERANKERS, open_reranker)}


def check(changes, opened, place, cache):
    """Each change alone, against the model as it is; the digests of all."""
    first, plain, _ = opened(place, lambda model: None, cache)
    digests = {"": first}
    for name, change in changes.items():
        digest, own, found = opened(place, change, cache)
        rough = name in ("halves", "bfloat16")
        np.testing.assert_allclose(found, own, atol=np.abs(own).max() * (3e-2 if rough else 1e-4), err_msg=name)
        changed = own.shape != plain.shape or not np.array_equal(own, plain)
        if changed or name not in ("an unused prompt", "no dropout"):
            assert (digest != first) == changed, name
        digests[name] = digest
    return digests


@pytest.mark.parametrize("family", FAMILIES)
def test_what_changes_the_output_of_a_live_model_changes_its_digest(tmp_path, folder, reranker, family):
    place = folder if family == "encoder" else reranker
    changes, opened = FAMILIES[family]
    digests = check(changes, opened, place, tmp_path / "cache")
    different = {digest for name, digest in digests.items() if name not in ("in training", "used")}
    assert len(different) >= len(digests) - 6
    moved = tmp_path / "elsewhere" / "model"
    shutil.copytree(place, moved)
    (moved / "README.md").write_text("Another card.")
    code = (
        "import json, sys; from pathlib import Path; from tests.models.test_model_identity import FAMILIES\n"
        f"changes, opened = FAMILIES[{family!r}]\n"
        f"step, place, cache = {4 if family == 'encoder' else 3}, *map(Path, sys.argv[1:])\n"
        "names = list(changes)[::step]\n"
        "print(json.dumps({name: opened(place, changes[name], cache)[0] for name in names}))"
    )
    output = subprocess.check_output(
        [sys.executable, "-W", "ignore", "-c", code, str(moved), str(tmp_path / "other cache")], text=True
    )
    for name, digest in json.loads(output.splitlines()[-1]).items():
        assert digest == digests[name], name


def edit(name, change):
    """A change of what a JSON file of a folder says."""

    def edited(place):
        path = place / name
        content = json.loads(path.read_text()) if path.exists() else {}
        change(content)
        path.write_text(json.dumps(content, indent=3))

    return edited


def of_modules(place, change):
    path = place / "modules.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


FOLDERS = {
    "8 dimensions": edit("config_sentence_transformers.json", lambda c: c.update(truncate_dim=8)),
    "a query prompt": edit("config_sentence_transformers.json", lambda c: c["prompts"].update(query="find: ")),
    "a document prompt": edit("config_sentence_transformers.json", lambda c: c["prompts"].update(document="text: ")),
    "an empty prompt": edit("config_sentence_transformers.json", lambda c: c["prompts"].update(query="", document="")),
    "shorter": edit("sentence_bert_config.json", lambda c: c.update(max_seq_length=5)),
    "lower case": edit("sentence_bert_config.json", lambda c: c.update(do_lower_case=True)),
    "a shorter tokenizer": edit("tokenizer_config.json", lambda c: c.update(model_max_length=9)),
    "cut at the left": edit("tokenizer_config.json", lambda c: c.update(truncation_side="left")),
    "capitals": edit("tokenizer_config.json", lambda c: c.update(do_lower_case=False)),
    "another pooling": edit("1_Pooling/config.json", lambda c: c.update(pooling_mode="max")),
    "another activation": edit("config.json", lambda c: c.update(hidden_act="relu")),
    "fewer layers": edit("config.json", lambda c: c.update(num_hidden_layers=1)),
    "no card": lambda place: (place / "README.md").unlink(missing_ok=True),
    "attributes": lambda place: (place / ".gitattributes").write_text("*.bin filter=lfs"),
    "touched": lambda place: [os.utime(path) for path in place.rglob("*")],
    "a checkpoint within": lambda place: shutil.copytree(place.parent / "base", place / "checkpoint-5"),
    "training state": lambda place: (
        (place / "trainer_state.json").write_text("{}"),
        (place / "training_args.bin").write_bytes(b"x"),
        (place / "pytorch_model.bin").write_bytes(b"not read beside safetensors"),
    ),
    "another similarity": edit("config_sentence_transformers.json", lambda c: c.update(similarity_fn_name="dot")),
    "versions": edit("config_sentence_transformers.json", lambda c: c.update(__version__={"pytorch": "9"})),
    "written elsewhere": edit("config.json", lambda c: c.update(_name_or_path="x", transformers_version="9.0")),
}


@pytest.mark.filterwarnings("ignore::hf_hardneg.errors.HardNegWarning")
def test_what_changes_the_output_of_a_folder_changes_its_digest(tmp_path, folder):
    plain = load_encoder(folder, cache_dir=tmp_path)
    vectors = own_vectors(SentenceTransformer(str(folder), device="cpu"))
    for number, (name, change) in enumerate(FOLDERS.items()):
        place = tmp_path / str(number) / "model"
        shutil.copytree(folder, place)
        shutil.copytree(folder.parent / "base", place.parent / "base")
        change(place)
        own = own_vectors(SentenceTransformer(str(place), device="cpu"))
        encoder = load_encoder(place, cache_dir=tmp_path, device="cpu")
        found = [encoder.encode(QUERIES, kind="query"), encoder.encode(TEXTS, kind="document")]
        np.testing.assert_allclose(np.concatenate(found), own, atol=np.abs(own).max() * 1e-4, err_msg=name)
        changed = own.shape != vectors.shape or not np.array_equal(own, vectors)
        if changed or name not in ("lower case", "capitals"):
            assert (encoder.digest != plain.digest) == changed, name


@pytest.mark.parametrize(
    ("prompts", "default", "unused"),
    [
        ({}, None, ""),
        ({"query": "q: "}, "query", ""),
        ({"query": "", "document": "", "sts": "compare: "}, "sts", "'sts'"),
        ({"query": "", "document": "", "passage": "passage: "}, None, "'passage'"),
        ({"query": "q: ", "passage": "passage: ", "corpus": "c: "}, None, "'corpus', 'passage'"),
        ({"query": "q: ", "document": "d: ", "passage": "passage: "}, "passage", ""),
        ({"query": "q: ", "document": "d: ", "sts": "compare: "}, "sts", ""),
        ({"query": None, "document": "d: "}, None, ""),
    ],
)
def test_prompts_are_those_of_encode_query_and_encode_document(tmp_path, folder, prompts, default, unused):
    place = tmp_path / "model"
    shutil.copytree(folder, place)
    said = {"prompts": prompts, "default_prompt_name": default}
    (place / "config_sentence_transformers.json").write_text(json.dumps(said))
    peer = SentenceTransformer(str(place), device="cpu")
    digests = set()
    for model in (place, peer):
        if unused:
            with pytest.warns(
                HardNegWarning, match=f"has the prompts {unused}, which encode_query and encode_document"
            ):
                encoder = load_encoder(model, cache_dir=tmp_path / "cache")
        else:
            encoder = load_encoder(model, cache_dir=tmp_path / "cache")
        digests.add(encoder.digest)
        np.testing.assert_allclose(encoder.encode(QUERIES, kind="query"), peer.encode_query(QUERIES), atol=1e-5)
        np.testing.assert_allclose(encoder.encode(TEXTS, kind="document"), peer.encode_document(TEXTS), atol=1e-5)
    assert len(digests) == 1, "a folder saved by sentence-transformers is the same by path and live"


class Reversed(SentenceTransformer):
    """Encodes otherwise than its modules say."""

    def encode(self, inputs, **options):
        return super().encode(inputs, **options)[:, ::-1].copy()


def hooked(model):
    model[0].register_forward_hook(lambda _, __, out: {**out, "token_embeddings": out["token_embeddings"] * 0 + 1})


def replaced(model):
    forward = model[1].forward
    model[1].forward = lambda features: {
        **forward(features),
        "sentence_embedding": forward(features)["token_embeddings"][:, 1],
    }


@pytest.mark.parametrize("change", [hooked, replaced, "class", "left padding"])
def test_a_live_model_that_no_file_describes_is_refused(tmp_path, folder, change):
    model = (Reversed if change == "class" else SentenceTransformer)(str(folder), device="cpu")
    load_encoder(SentenceTransformer(str(folder), device="cpu"), cache_dir=tmp_path)
    if callable(change):
        change(model)
    if change == "left padding":
        model.tokenizer.padding_side = "left"
    model.train()
    with pytest.raises(ModelError, match="cannot be saved as it is: opened again, it gives other vectors for a query"):
        load_encoder(model, cache_dir=tmp_path)
    assert model.training


def test_modules_without_own_forward_are_named_by_all_their_files(tmp_path):
    place = small(tmp_path, extra=[Dense(32, 8)])
    before = load_encoder(place, cache_dir=tmp_path)
    assert type(before) is SentenceTransformerEncoder
    shutil.copytree(place, tmp_path / "moved")
    (tmp_path / "moved" / "README.md").write_text("x")
    assert load_encoder(tmp_path / "moved", cache_dir=tmp_path).digest == before.digest
    weights = next(Path(place, "2_Dense").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert load_encoder(place, cache_dir=tmp_path).digest != before.digest
    with pytest.raises(ModelError, match="changed since it was chosen"):
        before.encode(["a"], kind="query")


def test_saving_and_using_a_model_with_a_new_head_keeps_its_digest(tmp_path, folder):
    """Saving writes the class that now holds the body into its configuration."""
    model = CrossEncoder(str(folder.parent / "base"), num_labels=1, device="cpu")
    digests = [load_cross_encoder(model, cache_dir=tmp_path / "first").digest]
    model.predict([("a", "b")])
    model.save_pretrained(str(tmp_path / "saved"))
    assert load_cross_encoder(model, cache_dir=tmp_path / "second").digest == digests[0]
