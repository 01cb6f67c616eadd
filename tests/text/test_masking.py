import pytest

from hf_hardneg.text.masking import masked, scrubbed

TOKENS = [
    "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "api_org_abcdefghijklmnopqrstuvwxyz",
    "sk-proj-abcdefghijklmnop_qrst",
    "ghp_abcdefghijklmnopqrst0123",
    "github_pat_11ABCDEFG0abcdefghijkl_mn",
    "glpat-abcdefghij0123456789",
    "xoxb-1234567890-abcdef",
    "AKIAABCDEFGHIJKLMNOP",
    "AIzaSyA-abcdefghijklmnopqrstuvwxyz01234",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\ncut off",
]


@pytest.mark.slow
@pytest.mark.parametrize("token", TOKENS)
def test_tokens_are_masked_wherever_they_stand(token):
    assert masked(f"key={token}") == "key=[masked]"
    assert masked(f"see ({token}") == "see ([masked]" and masked(f"my_{token}") == "my_[masked]"


def test_what_comes_before_and_after_a_token_stays():
    assert masked("Authorization: Bearer abcdefghijklmnop1234 x") == "Authorization: Bearer [masked] x"
    assert masked("https://anna:secret@host/x") == "https://[masked]@host/x"
    assert masked(f"{TOKENS[0]}, {TOKENS[3]}!") == "[masked], [masked]!"


PLAIN = [
    "hf_hardneg",
    "hf_hub_download and hf_hardneg.recipes.recipe",
    "task-oriented, risk-averse, a sk-1",
    "Represent this sentence: ",
    "/no_think",
    "and/or, 1/2, query/document",
    "https://example.org/a/b/c?d=e",
    "hf://datasets/user/name@main/data/x.parquet",
    "sentence-transformers/all-MiniLM-L6-v2",
    "a ~ b, ~5 km, x ~/ y",
    r"\alpha\beta",
    "12:30 and C: nothing",
    "eyJ is no token",
]


@pytest.mark.slow
@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_stay(text):
    assert scrubbed(text) == text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("/home/anna/models/minilm", "minilm"),
        ("/home/anna", "[path]"),
        ("/home/Anna Smith/my models/minilm", "minilm"),
        ("/Users/anna/x/y.parquet", "y.parquet"),
        ("/root/.cache/huggingface/hub/model", "model"),
        ("~/models/bi/minilm", "minilm"),
        ("~anna/models/minilm", "minilm"),
        (r"C:\Users\Anna Smith\models\minilm", "minilm"),
        (r"D:\data\corpora\x.parquet", "x.parquet"),
        (r"\\server\share\anna\x.parquet", "x.parquet"),
        ("file:///home/anna/corpus.parquet", "corpus.parquet"),
        ("/data/corpora/x.parquet", "x.parquet"),
        ("/data/x", "[path]"),
    ],
)
def test_paths_keep_their_last_part(path, left):
    assert scrubbed(path) == left
    assert scrubbed(f"read '{path}") == f"read '{left}"


def test_a_path_and_a_token():
    assert scrubbed(f"/data/{TOKENS[0]}/x") == "x" and masked("/home/anna/x") == "/home/anna/x"
