"""Drawn pictures with known truth: a shape of a colour, at a place, of a size; and what encodes them in no time."""

import io
from typing import NamedTuple

import numpy as np
from datasets import Dataset, Features, Image, Value
from PIL import Image as Pillow
from PIL import ImageDraw

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 70, 210),
    "yellow": (220, 210, 60),
    "violet": (150, 60, 190),
}
SIDE = 32
KINDS = [(shape, colour) for shape in SHAPES for colour in COLOURS]


class Drawn(NamedTuple):
    """A corpus of pictures, pairs of captions and pictures, and the kind of each picture.

    `truth[id]` is its (shape, colour); a document answers a caption exactly where that is the caption's.
    """

    pairs: Dataset
    corpus: Dataset
    truth: dict[str, tuple[str, str]]


def draw(shape, colour, rng, mode="RGB"):
    """A picture of a shape in a colour, at a place and in a size that `rng` draws, on a background of near white."""
    image = Pillow.new("RGB", (SIDE, SIDE), tuple(rng.integers(225, 256, 3).tolist()))
    pen, radius = ImageDraw.Draw(image), int(rng.integers(5, 10))
    x, y = (int(value) for value in rng.integers(radius, SIDE - radius, 2))
    fill = tuple(int(np.clip(part + rng.integers(-20, 21), 0, 255)) for part in COLOURS[colour])
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "square":
        pen.rectangle(box, fill=fill)
    elif shape == "triangle":
        pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=fill)
    else:
        pen.line((x - radius, y, x + radius, y), fill=fill, width=4)
        pen.line((x, y - radius, x, y + radius), fill=fill, width=4)
    return image.convert(mode)


def saved(image, form="PNG", **options):
    """An image as `datasets` stores the bytes of a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return {"bytes": file.getvalue(), "path": None}


def pixels(contents):
    """Vectors of images: colours of the picture in 4 x 4 parts, as they differ from white; of texts: their colour."""
    vectors = np.zeros((len(contents), 48), np.float32)
    for row, content in enumerate(contents):
        if isinstance(content, str):
            named = [np.array(COLOURS[word], np.float32) for word in content.split() if word in COLOURS]
            vectors[row] = np.tile((255 - np.mean(named or [(255, 255, 255)], axis=0)) / 255, 16)
        else:
            small = np.asarray(content.convert("RGB").resize((4, 4), Pillow.Resampling.BOX), np.float32)
            vectors[row] = (255 - small).reshape(-1) / 255
    return vectors + np.float32(1e-3)


pixels.digest = "colours of 4 x 4 parts"


def world(size, queries=None, copies=0, seed=0):
    """Pictures `p0`, `p1`, …, then copies of some under other ids in another format; a caption for some of them."""
    rng = np.random.default_rng(seed)
    kinds = [KINDS[row % len(KINDS)] for row in range(size)]
    images = [draw(*kind, rng) for kind in kinds]
    again = rng.choice(size, copies, replace=False).tolist()
    corpus = {
        "_id": [*(f"p{row}" for row in range(size)), *(f"copy-of-p{row}" for row in again)],
        "image": [*map(saved, images), *(saved(images[row], "BMP") for row in again)],
    }
    asked = rng.permutation(size)[: queries or size // 4].tolist()
    pairs = {
        "query": [f"a {kinds[row][1]} {kinds[row][0]}" for row in asked],
        "positive_ids": [[f"p{row}"] for row in asked],
    }
    truth = dict(zip(corpus["_id"], [*kinds, *(kinds[row] for row in again)], strict=True))
    features = Features({"_id": Value("string"), "image": Image()})
    return Drawn(Dataset.from_dict(pairs), Dataset.from_dict(corpus, features=features), truth)
