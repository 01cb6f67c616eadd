"""What an image is to mining: equal pixels are one document, and names stand for pixels until they are encoded."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as Pillow

from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.corpus.pictures import Picture, canonical, named, names_of, pictures_of
from hf_hardneg.errors import ConfigError, DataError
from tests.drawn import draw, saved, world


@pytest.fixture
def image():
    return draw("circle", "red", np.random.default_rng(0))


@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("PNG", "RGB", {}),
        ("PNG", "RGB", {"compress_level": 0}),
        ("BMP", "RGB", {}),
        ("TIFF", "RGB", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("PNG", "RGBA", {}),
    ],
)
def test_a_saved_copy_is_the_same_image(image, form, mode, options):
    assert named(saved(image.convert(mode), form, **options)) == named(saved(image))


def test_other_pixels_sizes_and_depths_are_other_images(image):
    moved, turned = image.copy(), image.transpose(Pillow.Transpose.ROTATE_90)
    moved.putpixel((0, 0), (1, 2, 3))
    see_through = image.convert("RGBA")
    see_through.putalpha(128)
    wide, tall = Pillow.new("RGB", (8, 2)), Pillow.new("RGB", (2, 8))
    deep = [Pillow.fromarray(np.full((4, 4), value, np.uint16)) for value in (300, 3000)]
    images = [image, moved, turned, see_through, wide, tall, *deep]
    assert len({named(saved(each)) for each in images}) == len(images)


def test_grey_images_are_those_of_equal_colours(image):
    grey = image.convert("L")
    assert named(saved(grey)) == named(saved(grey.convert("RGB")))
    assert canonical(grey).mode == "RGB"


def test_an_image_turned_by_its_exif_data_is_the_turned_one(image):
    exif = Pillow.Exif()
    exif[0x0112] = 3
    upright = image.transpose(Pillow.Transpose.ROTATE_180)
    assert named(saved(upright, exif=exif)) == named(saved(image))


def test_a_file_by_its_path_is_read_anew_when_it_changes(tmp_path, image):
    path = tmp_path / "one.png"
    image.save(path)
    by_path = {"bytes": None, "path": str(path)}
    assert named(by_path) == named(saved(image))
    before = open_corpus(Dataset.from_dict({"image": [str(path)]}).cast_column("image", Image())).digest
    image.rotate(90).save(path)
    assert named(by_path) == named(saved(image.rotate(90)))
    assert open_corpus(Dataset.from_dict({"image": [str(path)]}).cast_column("image", Image())).digest != before


def test_names_of_a_column_keep_nulls(image):
    column = pa.array([saved(image), None, {"bytes": None, "path": None}], Image().pa_type)
    assert names_of(column).to_pylist() == [named(saved(image)), None, None]
    assert pictures_of(column)[1:] == [None, None]


def test_a_picture_travels_with_its_pixels(image):
    picture = pickle.loads(pickle.dumps(Picture(named(saved(image)), saved(image))))
    assert picture == named(saved(image))
    assert picture.opened().tobytes() == image.tobytes()


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_an_error_that_says_so(content):
    with pytest.raises(DataError, match="cannot be decoded"):
        named({"bytes": content, "path": None})


def test_a_corpus_of_images_has_names_for_texts_and_opens_the_rest_late():
    corpus = open_corpus(world(6, copies=1).corpus)
    rows = np.array([5, 0, 6])
    assert corpus.text_columns == ("image",)
    assert corpus.contents(rows) == corpus.texts(rows).to_pylist()
    assert all(isinstance(each, Picture) for each in corpus.contents(rows))
    copy = int(corpus.ids(np.arange(7))[6].as_py().removeprefix("copy-of-p"))
    names = corpus.texts(np.arange(7)).to_pylist()
    assert names[6] == names[copy]
    assert len(set(names)) == 6


def test_a_corpus_of_images_pickles_as_paths():
    corpus = open_corpus(world(6).corpus)
    packed = pickle.dumps(corpus)
    assert len(packed) < 5000
    assert pickle.loads(packed).contents(np.arange(6)) == corpus.contents(np.arange(6))
    assert corpus.part(range(2, 4)).contents(np.arange(2)) == corpus.contents(np.arange(2, 4))


def test_texts_and_images_may_be_mixed(image):
    features = Features({"_id": Value("string"), "text": Value("string"), "image": Image()})
    rows = {"_id": ["a", "b"], "text": ["a red circle", None], "image": [None, saved(image)]}
    mixed = Dataset.from_dict(rows, features=features)
    contents = open_corpus(mixed, columns={"text": ["text", "image"]}).contents(np.arange(2))
    assert contents == ["a red circle", named(saved(image))]
    assert [isinstance(each, Picture) for each in contents] == [False, True]
    both = Dataset.from_dict({**rows, "text": ["a", "b"]}, features=features)
    with pytest.raises(DataError, match="have both an image and a text in 'text', first in row 1"):
        open_corpus(both, columns={"text": ["text", "image"]})


def test_several_columns_of_images_and_missing_images_are_refused(image):
    twice = Dataset.from_dict({"one": [saved(image)], "two": [saved(image)]})
    twice = twice.cast(Features({"one": Image(), "two": Image()}))
    with pytest.raises(ConfigError, match="one of them is allowed"):
        open_corpus(twice, columns={"text": ["one", "two"]})
    missing = Dataset.from_dict({"image": [saved(image), None]}, features=Features({"image": Image()}))
    with pytest.raises(DataError, match="'image' is null in row 1"):
        open_corpus(missing)
