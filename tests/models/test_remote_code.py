"""Code that comes with a model or a data set runs where the user says so by name; nobody is asked on a terminal."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import hf_hardneg

pytestmark = pytest.mark.slow

PACKAGE = Path(hf_hardneg.__file__).parent
LOADERS = {
    *("from_pretrained", "SentenceTransformer", "CrossEncoder", "SparseEncoder", "load_dataset"),
    *("load_dataset_builder", "pipeline", "AutoConfig", "getattr(module, model_class)"),
}
"""What may find code beside what it loads; the last is a class of sentence-transformers, by its name."""


def loads():
    """Every call in the package of what may find code: file and line, name, and what it says of trust."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ast.unparse(node.func)))
                of_a_client = ast.unparse(node.func).endswith("client.pipeline")  # Redis' pipeline of commands
                if name in LOADERS and not of_a_client:
                    said = {one.arg: ast.unparse(one.value) for one in node.keywords}
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", name, said.get("trust_remote_code")


def test_every_load_says_whether_code_is_trusted():
    found = list(loads())
    assert {"from_pretrained", "getattr(module, model_class)", "CrossEncoder", "load_dataset"} <= {
        name for _, name, _ in found
    }
    assert [where for where, _, said in found if said is None] == []
    by_name = {said for _, _, said in found} - {"False"}
    assert by_name == {"own_code", "trusted"}  # what the user said, of SentenceTransformer and of LocalGenerator


def test_nothing_reads_standard_input():
    names = {
        getattr(node.func, "id", getattr(node.func, "attr", ""))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    }
    assert not names & {"input", "getpass"}


@pytest.fixture(scope="module")
def with_code(tmp_path_factory):
    """A causal language model whose configuration names code beside it, which leaves a marker when it is run."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from tests.cross_encoders import MINILM

    folder = tmp_path_factory.mktemp("coded")
    AutoTokenizer.from_pretrained(MINILM, model_input_names=["input_ids", "attention_mask"]).save_pretrained(folder)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=30522, **size)
    LlamaForCausalLM(config).save_pretrained(folder)
    said = json.loads((folder / "config.json").read_text())
    said |= {
        "model_type": "marked",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(said))
    (folder / "own.py").write_text(CODE.format(marker=str(folder / "ran")))
    return folder


CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({marker!r}).write_text("code was run")
class OwnConfig(LlamaConfig):
    model_type = "marked"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def generated(folder, trusted, **options):
    code = f"""
from hf_hardneg.generate import LocalGenerator
from hf_hardneg.generate.generators import Ask
writer = LocalGenerator(model={str(folder)!r}, max_tokens=2, trust_remote_code={trusted})
print(writer.identity["local"])
print(len(list(writer.generate([Ask("a b", 0)]))))
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, **options)


def test_code_of_a_generator_runs_where_the_user_says_so(with_code):
    asked = generated(with_code, False, stdin=subprocess.PIPE)  # a terminal that never answers
    assert asked.returncode == 1 and "ModelError" in asked.stderr and "trust_remote_code=True" in asked.stderr
    assert not (with_code / "ran").exists()
    trusted = generated(with_code, True, stdin=subprocess.DEVNULL)
    assert trusted.returncode == 0, trusted.stderr
    assert (with_code / "ran").exists()
    before = trusted.stdout.splitlines()[0]
    (with_code / "own.py").write_text((with_code / "own.py").read_text() + "# edited\n")
    assert generated(with_code, True, stdin=subprocess.DEVNULL).stdout.splitlines()[0] != before
