"""Images as queries and documents: told apart by their pixels, named by a digest of those, opened when encoded.

Wherever mining reads a text it may read an image, as its name: `image:` and the digest of its pixels. So what holds for
equal texts holds for equal images, also where one was saved again in another file; outputs carry names and ids, and
pixels stay where they are stored.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.runtime.optional import require
from hf_hardneg.runtime.process import in_threads

if TYPE_CHECKING:
    from PIL.Image import Image

PREFIX = "image:"
NAME = re.compile(PREFIX + "[0-9a-f]{32}")
REMEMBERED = 200_000
"""Names that a process remembers, so that an image that several steps read is decoded once."""
WORTH_A_THREAD = 32
READ = 256
"""Images of a column that are read at a time."""

_names: dict[bytes, str] = {}


class Picture(str):
    """The name of an image, which knows where its pixels are.

    Args:
        name (`str`): as `named` makes it.
        stored (`dict`): the `bytes` of a file, or its `path`, as `datasets.Image` stores them.
    """

    stored: dict[str, Any]

    def __new__(cls, name: str, stored: dict[str, Any]) -> Picture:
        """Name an image."""
        picture = super().__new__(cls, name)
        picture.stored = stored
        return picture

    def __getnewargs__(self) -> tuple[str, dict[str, Any]]:  # type: ignore[override]
        return str(self), self.stored

    def opened(self) -> Image:
        """Decode the image; equal names give equal pixels, see `canonical`."""
        return canonical(decoded(self.stored))


def picture_of(image: Image) -> Picture:
    """Store an image of PIL as the bytes of a PNG."""
    file = io.BytesIO()
    image.save(file, "PNG")
    stored = {"bytes": file.getvalue(), "path": None}
    return Picture(named(stored), stored)


def probe_images() -> list[Picture]:
    """Draw images that show another size, crop, mean or channel order: colours that run, upright and broad."""
    require("PIL", extra="images", needed_by="a model of images")
    from PIL.Image import fromarray

    across, down = np.meshgrid(np.linspace(0, 255, 96), np.linspace(0, 255, 64))
    colours = np.stack([across, down, 255 - across], axis=-1).astype(np.uint8)
    return [picture_of(fromarray(colours)), picture_of(fromarray(np.ascontiguousarray(colours.transpose(1, 0, 2))))]


def are_pictures(kind: pa.DataType) -> bool:
    """Whether a column holds images as `datasets` stores them, bytes or paths."""
    return pa.types.is_struct(kind) and {part.name for part in kind} == {"bytes", "path"}


def holds_pictures(kind: pa.DataType) -> bool:
    """Whether a column holds images, or lists of images."""
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return are_pictures(kind.value_type if listed else kind)


def as_stored(values: Sequence[Any]) -> Sequence[Any]:
    """Images of PIL in a column, or in lists in it, as `datasets` stores them; whatever else as it is."""
    first = next((value for value in values if value is not None and not (isinstance(value, list) and not value)), None)
    if isinstance(first, list):
        return [as_stored(value) if isinstance(value, list) else value for value in values]
    if first is None or not _is_image(first):
        return values
    from datasets import Image

    return [value if value is None else Image().encode_example(value) for value in values]


def _is_image(value: Any) -> bool:
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(value).__mro__)


def decoded(stored: dict[str, Any]) -> Image:
    """Decode an image as `datasets` does, turned as its EXIF data say.

    Raises:
        DataError: the bytes are no image that PIL reads, or the file is not there.
        MissingExtraError: PIL is not installed.
    """
    require("PIL", extra="images", needed_by="a column of images")
    from datasets import Image
    from PIL.Image import DecompressionBombError

    try:
        return Image().decode_example(stored)
    except (OSError, ValueError, SyntaxError, DecompressionBombError) as error:
        what = repr(stored.get("path")) if stored.get("path") else f"of {len(stored.get('bytes') or b''):,} bytes"
        raise DataError(
            f"The image {what} cannot be decoded ({type(error).__name__}: {str(error)[:200]}); PNG, JPEG, WebP and "
            "whatever else PIL opens can be. Leave its row out, or save it again."
        ) from error


def canonical(image: Image) -> Image:
    """The image in the mode in which images are compared and encoded.

    Integers and floats of more than 8 bits stay; of the rest, `RGBA` where a pixel lets something show through, and
    `RGB` otherwise.
    """
    if image.mode.startswith("I"):
        return image.convert("I")
    if image.mode == "F":
        return image
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        whole = image.convert("RGBA")
        if whole.getchannel("A").getextrema() != (255, 255):
            return whole
    return image.convert("RGB")


def named(stored: dict[str, Any]) -> str:
    """The name of an image: equal for equal size and pixels, whatever file they come from."""
    mark = _mark(stored)
    name = _names.get(mark) if mark is not None else None
    if name is not None:
        return name
    image = canonical(decoded(stored))
    digest = blake2b(f"{image.mode} {image.width} {image.height} ".encode(), digest_size=16)
    digest.update(image.tobytes())
    name = PREFIX + digest.hexdigest()
    if mark is not None:
        if len(_names) >= REMEMBERED:
            _names.clear()
        _names[mark] = name
    return name


def _mark(stored: dict[str, Any]) -> bytes | None:
    """What tells a stored image without decoding it; `None` where only its pixels can."""
    if stored.get("bytes") is not None:
        return blake2b(stored["bytes"], digest_size=16).digest()
    state = _state(stored.get("path"))
    return None if state is None else blake2b(state.encode(), digest_size=16).digest()


def _state(path: str | None) -> str | None:
    """A file by its path, size, time and inode; `None` where it is no file of this machine."""
    try:
        state = os.stat(path or "")
    except (OSError, ValueError):
        return None
    return f"{path} {state.st_size} {state.st_mtime_ns} {state.st_ino}"


def names_of(column: pa.Array) -> pa.Array:
    """Names of a column of images, a string array (n,); null where there is none."""
    return pa.array([name for part in _parts(column) for name in _named(part)], pa.string())


def pictures_of(column: pa.Array) -> list[Picture | None]:
    """The images of a column, by their names; `None` where there is none."""
    return [
        None if name is None or stored is None else Picture(name, stored)
        for part in _parts(column)
        for name, stored in zip(_named(part), part, strict=True)
    ]


def _parts(column: pa.Array) -> Iterator[list[dict[str, Any] | None]]:
    for start in range(0, len(column), READ):
        yield [_held(stored) for stored in column.slice(start, READ).to_pylist()]


def _held(stored: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if stored is None or (stored["bytes"] is None and stored["path"] is None) else stored


def _named(images: list[dict[str, Any] | None]) -> list[str | None]:
    def part(rows: slice) -> list[str | None]:
        return [None if stored is None else named(stored) for stored in images[rows]]

    return [name for names in in_threads(part, len(images), at_least=WORTH_A_THREAD) for name in names]


def file_states(column: pa.Array) -> str:
    """The files that a column of images names by paths, so that a digest of the column changes where one does."""
    if not pa.types.is_struct(column.type):
        return ""
    paths = column.filter(column.field("bytes").is_null()).field("path").drop_null().to_pylist()
    return "\n".join(_state(path) or "" for path in paths)


def by_kind(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Texts (n,), and names of images (n,), of an array of both; null where it is of the other kind."""
    images = pc.fill_null(pc.match_substring_regex(texts, rf"\A{NAME.pattern}\z"), False)
    nothing = pa.scalar(None, texts.type)
    return pc.if_else(images, nothing, texts), pc.if_else(images, texts, nothing)


def with_pixels(texts: list[str], stored: pa.Array) -> list[str]:
    """Texts (n,) in which the names of images know their pixels, from a column of those (n,); null beside a text."""
    images = map(_held, stored.to_pylist())
    return [text if image is None else Picture(text, image) for text, image in zip(texts, images, strict=True)]


def has_pictures(texts: Sequence[str]) -> bool:
    """Whether images are among some texts."""
    return any(isinstance(text, Picture) for text in texts)


def apart(texts: Sequence[str]) -> list[np.ndarray]:
    """Positions of the texts, and of the images, among both."""
    images = np.array([isinstance(text, Picture) for text in texts], bool)
    return [np.flatnonzero(~images), np.flatnonzero(images)]


def is_name(text: Any) -> bool:
    """Whether something is the name of an image, as `named` makes it, and nothing besides."""
    return isinstance(text, str) and text.startswith(PREFIX) and NAME.fullmatch(text) is not None


def refuse_names(what: str, texts: Iterable[str]) -> None:
    """Raise where names of images are among texts that are to be read as words.

    Raises:
        ConfigError: they are.
    """
    if any(map(is_name, texts)):
        raise refuse_pictures(what)


def refuse_lost(contents: Iterable[str]) -> None:
    """Raise where a name of an image, without its pixels, is among what is to be encoded.

    Raises:
        DataError: one is.
    """
    lost = next((content for content in contents if is_name(content) and not isinstance(content, Picture)), None)
    if lost is not None:
        raise DataError(
            f"The text {lost!r} is the name of an image, whose pixels are not there; columns of images "
            "are allowed, and names of documents of the corpus. Give the rows that were mined, with their images."
        )


def refuse_pictures(what: str) -> ConfigError:
    """The error for images in the place of texts."""
    return ConfigError(
        f"{what} reads texts, and got images. Give a model of images and texts, such as a CLIP or SigLIP folder, or a "
        "callable that takes images of PIL; or name a column of texts, such as captions, with columns=."
    )
