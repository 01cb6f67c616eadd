"""Two modules of a user's, and edits of them."""

PARTS = '''
import functools, re, operator, enum
from collections import defaultdict, namedtuple
from dataclasses import dataclass, field
import numpy as np
import weights
import shop.counting
from shop import prices as of_shop
from shop.counting import counted

BONUS = 3
UNUSED = 1
WORD = re.compile("lava", re.IGNORECASE)
ARRAY = np.array([1.0, 2.0])
ORDER = {"dark": 1, "rock": 2}
SET = {"rock", "lava", "dark"}
class Kind(enum.Enum):
    FIRST = 5
Pair = namedtuple("Pair", "left right")
PAIR = Pair(1, 2)

def scaled(scale):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(text):
            return function(text) * scale
        return wrapper
    return decorate

@scaled(2)
def decorated(text):
    return len(text)

def outer(depth):
    def inner(text, width=[1]):
        return depth + len(width) + text.count("r")
    return inner

class Base:
    rate = 7
    def worth(self, text):
        return self.rate * len(text)
    @property
    def share(self):
        return 0.5
    @staticmethod
    def fixed():
        return 11
    @classmethod
    def named(cls):
        return cls.rate + 1

class Middle(Base):
    pass

@dataclass(frozen=True)
class Model(Middle):
    bias: float = 1.5
    terms: list = field(default_factory=lambda: ["rock"])
    def __call__(self, text):
        return super().worth(text) + self.bias + sum(text.count(term) for term in self.terms) + self.share

class Slotted:
    __slots__ = ("height",)
    def __init__(self):
        self.height = 4

class Words(dict):
    def __missing__(self, key):
        return 9

MODEL = Model()
SLOTTED = Slotted()
WORDS = Words(a=1)
CLOSED = outer(2)
PARTIAL = functools.partial(pow, 2, mod=5)
BOUND = Model(bias=0.25).worth
TABLE = defaultdict(lambda: 8, dark=1)
LAMBDAS = [lambda x: x + 1, lambda x: (lambda y: y * 2)(x)]

@functools.lru_cache(maxsize=None)
def remembered(text):
    return len(text) + 1

@functools.singledispatch
def by_type(value):
    return 1

@by_type.register
def _(value: str):
    return 2

def even(n):
    return True if n == 0 else odd(n - 1)

def odd(n):
    return False if n == 0 else even(n - 1)

def unused(text):
    return text

def keyword(text, *, size=3):
    return size

def late(text):
    from shop import late as later
    import shop.deep.deeper
    return later.value() + shop.deep.deeper.LEVEL

def embed(text, start=10):
    """The numbers of a text."""
    words = text.lower().split()
    total = start + BONUS + sum(weights.OF_WORDS.get(word, 0) for word in words)
    total += len(WORD.findall(text)) + float(ARRAY.sum()) + counted(text) + shop.counting.FACTOR + of_shop.price(text)
    total += decorated(text) + CLOSED(text) + MODEL(text) + MODEL.fixed() + MODEL.named() + SLOTTED.height
    total += WORDS["none"] + PARTIAL(3) + BOUND(text) + TABLE["none"] + sum(f(2) for f in LAMBDAS) + remembered(text)
    total += by_type(text) + even(4) + keyword(text) + late(text) + Kind.FIRST.value + PAIR.left
    total += len([word for word in words if word in {"dark", "rock"}]) + operator.itemgetter(1)((1, 2))
    return round(total, 6), list(ORDER), sorted(SET), -0.0
'''

FILES = {
    "parts.py": PARTS,
    "weights.py": 'OF_WORDS = {"rock": 2, "lava,": 3}\nUNREAD = 5\n',
    "shop/__init__.py": "",
    "shop/counting.py": 'from . import prices\nFACTOR = 4\ndef counted(text): return text.count("r") * prices.EACH\n',
    "shop/prices.py": "EACH = 2\nOTHER = 1\ndef price(text):\n    return EACH + 1\n",
    "shop/late.py": "from .prices import EACH as each\ndef value():\n    return each * 3\n",
    "shop/deep/__init__.py": "",
    "shop/deep/deeper.py": "LEVEL = 6\n",
}

CHANGES = {
    "body": ("parts.py", "round(total, 6)", "round(total + 1, 6)"),
    "type of a constant": ("parts.py", "sorted(SET), -0.0", "sorted(SET), 0"),
    "sign of zero": ("parts.py", "sorted(SET), -0.0", "sorted(SET), 0.0"),
    "default": ("parts.py", "start=10", "start=11"),
    "mutable default": ("parts.py", "width=[1]", "width=[1, 2]"),
    "keyword default": ("parts.py", "size=3", "size=5"),
    "global number": ("parts.py", "BONUS = 3", "BONUS = 4"),
    "pattern": ("parts.py", '"lava", re', '"l.*a", re'),
    "flags of a pattern": ("parts.py", "re.IGNORECASE", "0"),
    "array": ("parts.py", "[1.0, 2.0]", "[1.0, 2.5]"),
    "order of a dict": ("parts.py", '{"dark": 1, "rock": 2}', '{"rock": 2, "dark": 1}'),
    "member of a set": ("parts.py", '{"rock", "lava", "dark"}', '{"rock", "lava"}'),
    "set in an expression": ("parts.py", 'word in {"dark", "rock"}', 'word in {"dark"}'),
    "enum": ("parts.py", "FIRST = 5", "FIRST = 6"),
    "named tuple": ("parts.py", "Pair(1, 2)", "Pair(3, 2)"),
    "argument of a decorator": ("parts.py", "@scaled(2)", "@scaled(3)"),
    "decorator": ("parts.py", "function(text) * scale", "function(text) * scale + 1"),
    "decorated function": ("parts.py", "return len(text)\n\ndef outer", "return len(text) + 1\n\ndef outer"),
    "closure": ("parts.py", "outer(2)", "outer(3)"),
    "inner function": ("parts.py", 'depth + len(width) + text.count("r")', 'depth + len(width) + text.count("a")'),
    "class attribute": ("parts.py", "rate = 7", "rate = 8"),
    "method of a base": ("parts.py", "self.rate * len(text)", "self.rate * len(text) + 1"),
    "property": ("parts.py", "return 0.5", "return 0.75"),
    "static method": ("parts.py", "return 11", "return 12"),
    "class method": ("parts.py", "cls.rate + 1", "cls.rate + 2"),
    "bases": ("parts.py", "    pass\n", "    rate = 6\n"),
    "field": ("parts.py", "bias: float = 1.5", "bias: float = 2.5"),
    "factory of a field": ("parts.py", '["rock"])', '["dark"] * 2)'),
    "argument of an instance": ("parts.py", "MODEL = Model()", "MODEL = Model(2.0)"),
    "call of an instance": ("parts.py", "+ self.share", "- self.share"),
    "slot": ("parts.py", "self.height = 4", "self.height = 5"),
    "subclass of a dict": ("parts.py", "return 9", "return 8"),
    "content of a subclass of a dict": ("parts.py", "Words(a=1)", "Words(a=1, none=2)"),
    "partial": ("parts.py", "pow, 2, mod=5", "pow, 3, mod=5"),
    "keyword of a partial": ("parts.py", "mod=5", "mod=7"),
    "factory of a defaultdict": ("parts.py", "lambda: 8", "lambda: 7"),
    "lambda": ("parts.py", "lambda x: x + 1", "lambda x: x + 2"),
    "lambda in a lambda": ("parts.py", "y * 2", "y * 3"),
    "order of functions": ("parts.py", "sum(f(2) for f in LAMBDAS)", "LAMBDAS[0](2)"),
    "under lru_cache": ("parts.py", "len(text) + 1\n\n@functools.single", "len(text) + 2\n\n@functools.single"),
    "under singledispatch": ("parts.py", "    return 2\n", "    return 3\n"),
    "recursion": ("parts.py", "else even(n - 1)", "else even(n - 2)"),
    "recursion, other half": ("parts.py", "True if n == 0", "5 if n == 0"),
    "installed function": ("parts.py", "ARRAY.sum()", "ARRAY.max()"),
    "attribute of a module": ("weights.py", '"rock": 2', '"rock": 3'),
    "attribute of a submodule": ("shop/counting.py", "FACTOR = 4", "FACTOR = 5"),
    "function of a module": ("shop/counting.py", 'count("r")', 'count("a")'),
    "function of a module under another name": ("shop/prices.py", "EACH + 1", "EACH + 2"),
    "module of a module": ("shop/prices.py", "EACH = 2", "EACH = 3"),
    "import in a function": ("shop/late.py", "each * 3", "each * 4"),
    "dotted import in a function": ("shop/deep/deeper.py", "LEVEL = 6", "LEVEL = 7"),
}

NO_CHANGES = {
    "nothing": ("parts.py", "", ""),
    "comment": ("parts.py", "BONUS = 3", "# how much\nBONUS = 3  # much"),
    "comment in a function": ("parts.py", "    total = start", "    # first\n    total = start"),
    "white space": ("parts.py", "start + BONUS", "(start   +\n\n        BONUS)"),
    "unused global": ("parts.py", "UNUSED = 1", "UNUSED = 2"),
    "unused function": ("parts.py", "    return text\n\ndef keyword", "    return text * 2\n\ndef keyword"),
    "annotation": ("parts.py", "def keyword(text,", "def keyword(text: str,"),
    "order of a set": ("parts.py", '{"rock", "lava", "dark"}', '{"dark", "lava", "rock"}'),
    "order of definitions": ("parts.py", "BONUS = 3\nUNUSED = 1\n", "UNUSED = 1\nBONUS = 3\n"),
    "attribute nobody reads": ("weights.py", "UNREAD = 5", "UNREAD = 6"),
    "attribute nobody reads of a submodule": ("shop/prices.py", "OTHER = 1", "OTHER = 2"),
    "module nobody reads": ("shop/more.py", "", "X = 1\n"),
    "other quotes": ("parts.py", '"lava", re', "'lava', re"),
    "value written otherwise": ("parts.py", "BONUS = 3", "BONUS = 1 + 2"),
}


def write(folder, edit=("parts.py", "", "")):
    """The modules in a folder, with one piece of text replaced by another."""
    file, old, new = edit
    for name, text in {file: "", **FILES}.items():
        if name == file and old:
            assert text.count(old) == 1, (name, old, text.count(old))
            text = text.replace(old, new)
        elif name == file:
            text += new
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder
