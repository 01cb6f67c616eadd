"""Late-interaction models beside sentence-transformers, their identities, and models of other families."""

import numpy as np
import pytest
from datasets import Dataset
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.multi_vector_encoder import MultiVectorEncoderTrainer, MultiVectorEncoderTrainingArguments
from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling, MultiVectorMask
from transformers import BertModel

from hf_hardneg import HardNegatives, LateInteraction, Strategy, mine
from hf_hardneg.errors import ConfigError, ModelError
from hf_hardneg.formats import to_format
from hf_hardneg.models.encoder import load_encoder
from hf_hardneg.models.sparse_encoder import load_sparse_encoder
from hf_hardneg.models.token_encoder import load_token_encoder
from hf_hardneg.training import Refresher, Schedule
from tests.models.test_model_identity import small_body
from tests.worlds import encode, world

pytestmark = pytest.mark.slow

CPU = {"device": "cpu"}
PAIRS, CORPUS = world(3)


def model_of(body, **options):
    modules = [Transformer(str(body)), MultiVectorMask(skiplist_words=["!", "."]), Normalize()]
    return MultiVectorEncoder(modules=modules, prompts={"query": "ask: ", "document": "say: "}, **CPU, **options)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokens")
    body = small_body(root / "body", BertModel)
    for name in ("maxsim", "meanmaxsim"):
        model_of(body, similarity_fn_name=name).save_pretrained(str(root / name))
    return {"body": root / "body", **{name: root / name for name in ("maxsim", "meanmaxsim")}}


@pytest.mark.parametrize("name", ["maxsim", "meanmaxsim"])
def test_scores_and_the_best_are_those_of_sentence_transformers(name, folders, tmp_path):
    peer = MultiVectorEncoder(str(folders[name]), **CPU)
    queries = PAIRS["query"][:]
    expected = peer.similarity(peer.encode_query(queries), peer.encode_document(CORPUS["text"][:])).numpy()
    for given in (str(folders[name]), peer):
        searcher = HardNegatives(CORPUS, "colbert", encoder=given, cache_dir=str(tmp_path)).retrieval.searcher
        asked = searcher.encoder.encode_each_token(queries, kind="query")
        grid = np.indices(expected.shape).reshape(2, -1)
        scores = searcher.score(asked, *grid).reshape(expected.shape)
        np.testing.assert_allclose(scores, expected, rtol=1e-3)
        hits = searcher.search(asked, np.full(len(queries), 10))
        for query, row in enumerate(expected):
            np.testing.assert_allclose(hits.score[hits.query == query], np.sort(row)[::-1][:10], rtol=1e-3)
    one = searcher.encoder.encode_each_token(queries[4:5], kind="query")
    assert (one.vectors == asked[np.array([4])].vectors).all()


def test_identity_is_of_what_changes_a_vector(folders, tmp_path):
    def digest_of(encoder):
        return load_token_encoder(encoder, cache_dir=tmp_path, device="cpu").digest

    seen = {digest_of(folders["maxsim"]), digest_of(folders["meanmaxsim"])}
    for change in ("skiplist", "prompt", "weights", "length"):
        model = MultiVectorEncoder(str(folders["maxsim"]), **CPU)
        if change == "skiplist":
            model[1].skiplist_words = ["!"]
        elif change == "prompt":
            model.prompts["document"] = "tell: "
        elif change == "length":
            model.max_seq_length = 9
        else:
            next(model.parameters()).data[5] += 1
        model.save_pretrained(str(tmp_path / change))
        seen.add(digest_of(tmp_path / change))
    assert len(seen) == 6
    assert digest_of(folders["maxsim"]) in seen


def test_pooling_is_that_of_sentence_transformers(folders, tmp_path):
    strategy = Strategy([LateInteraction(20, encoder=str(folders["maxsim"]), pool_factor=2)])
    searcher = HardNegatives(CORPUS, strategy, cache_dir=str(tmp_path)).retrieval.searcher
    peer = MultiVectorEncoder(str(folders["maxsim"]), **CPU)
    pooling = HierarchicalTokenPooling(pool_factor=2)
    expected = peer.encode_document(CORPUS["text"][:], token_pooling=pooling, batch_size=1, convert_to_numpy=True)
    rows = searcher.index.documents.rows
    assert rows.sizes.tolist() == [len(matrix) for matrix in expected]
    np.testing.assert_allclose(rows.vectors, np.concatenate(expected), atol=1e-3)
    queries = searcher.encoder.encode_each_token(PAIRS["query"][:], kind="query")
    assert queries.sizes.tolist() == [len(matrix) for matrix in peer.encode_query(PAIRS["query"][:])]


def test_models_of_other_families_are_refused_by_name_both_ways(folders, tmp_path):
    tokens, dense = str(folders["maxsim"]), str(folders["body"])
    options = {"cache_dir": tmp_path}
    for load in (load_encoder, load_sparse_encoder):
        with pytest.raises(ModelError, match="a late-interaction model"):
            load(tokens, **options)
        with pytest.raises(ConfigError, match="got a MultiVectorEncoder, a late-interaction model"):
            load(MultiVectorEncoder(tokens, **CPU), **options)
        with pytest.raises(ConfigError, match="TokenModulesEncoder"):
            load(load_token_encoder(tokens, **options), **options)
    with pytest.raises(ModelError, match="a late-interaction model, such as ColBERT, is allowed"):
        load_token_encoder(dense, **options)
    with pytest.raises(ConfigError, match="got a SentenceTransformer, .*a late-interaction model"):
        load_token_encoder(SentenceTransformer(dense, **CPU), **options)
    with pytest.raises(ConfigError, match="got a CallableEncoder, which has no vector for each token"):
        load_token_encoder(load_encoder(encode, **options), **options)
    with pytest.raises(ConfigError, match="got a int"):
        load_token_encoder(7, **options)


def test_empty_and_odd_texts_have_vectors(folders, tmp_path):
    encoder = load_token_encoder(str(folders["maxsim"]), cache_dir=tmp_path, device="cpu")
    rows = encoder.encode_each_token(["", "!!!", "word1 " * 999, "😀 東京"], kind="document")
    assert (rows.sizes > 0).all() and np.isfinite(rows.vectors).all()
    assert len(encoder.encode_each_token([], kind="query")) == 0


def test_one_training_step_with_mined_data_and_a_refresh_with_its_weights(folders, tmp_path):
    model = MultiVectorEncoder(str(folders["maxsim"]), **CPU)
    strategy = Strategy([LateInteraction(20)])
    mined = mine(PAIRS, CORPUS, strategy, encoder=model, num_negatives=2, cache_dir=str(tmp_path / "cache"))
    rows = to_format(mined, "n-tuple")
    rows = rows if isinstance(rows, Dataset) else rows["train"]
    refresher = Refresher(
        PAIRS, CORPUS, strategy, encoder=model, directory=tmp_path / "run", warm_start="random", num_negatives=3
    )
    refresher.at(1, Schedule(every=1))
    before = PAIRS.with_transform(refresher.negatives)[:]["negative_ids"]
    arguments = MultiVectorEncoderTrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=1,
        per_device_train_batch_size=8,
        learning_rate=0.5,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    )
    trainer = MultiVectorEncoderTrainer(
        model=model, args=arguments, train_dataset=rows, loss=MultiVectorMultipleNegativesRankingLoss(model)
    )
    assert np.isfinite(trainer.train().training_loss)
    assert refresher.at(2, Schedule(every=1))
    assert PAIRS.with_transform(refresher.negatives)[:]["negative_ids"] != before
