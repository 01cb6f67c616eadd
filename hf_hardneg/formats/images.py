"""Images in the place of their names, in whatever layout: opened when a row is read, or as files, each written once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.grouping import isin_sorted
from hf_hardneg.arrays.lists import combined
from hf_hardneg.corpus.documents import image_columns
from hf_hardneg.corpus.ids import as_text, flat_texts, is_listed
from hf_hardneg.corpus.pictures import PREFIX, READ, Picture, holds_pictures, is_name
from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.runtime.arguments import Folder, checked
from hf_hardneg.store.disk import written

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

PNG, TIFF = ".png", ".tiff"


@checked
def with_images(
    dataset: Dataset | DatasetDict, images: Dataset | Sequence[Dataset], *, folder: Folder | None = None
) -> Dataset | DatasetDict:
    """Put the images in the place of their names, `image:` and a digest of pixels, wherever rows hold such.

    Rows of `mine()` and of `to_format()` name images, so each is stored once, in the corpus or in the pairs. Here the
    images of a row are opened when it is read, by a trainer or by workers of a loader.

    Args:
        dataset (`Dataset` or `DatasetDict`): mined rows, or what `to_format()` made of them.
        images (`Dataset` or `Sequence[Dataset]`): where they are: the corpus, and pairs whose queries or positives are
            images.
        folder (`str`, *optional*): writes each image that is named once as a PNG there (images of floats or of more
            than 16 bits as a TIFF), and puts paths in the place of names, for trainers that read JSON. By default
            nothing is written.

    Raises:
        ConfigError: no source has a column of images.
        DataError: an image that a row names is in no source; with `folder`, before anything is written.

    Example:
        >>> with_images(to_format(mined, "n-tuple"), corpus)  # doctest: +SKIP
    """
    from datasets import Dataset, DatasetDict

    album = Album.of([images] if isinstance(images, Dataset) else images)
    if isinstance(dataset, DatasetDict):
        return DatasetDict({name: _with(split, album, folder) for name, split in dataset.items()})
    return _with(dataset, album, folder)


def _with(dataset: Dataset, album: Album, folder: Folder | None) -> Dataset:
    if folder is None:
        return dataset.with_transform(Replaced(album.opened))
    names = _names_in(dataset)
    album.check(names)
    place = Path(folder).absolute()
    place.mkdir(parents=True, exist_ok=True)
    for name in names:
        _save(album.opened(name), place / _file(name, PNG))
    return dataset.with_format(None).map(Replaced(_Paths(place)), batched=True, desc="Paths of images")


def _file(name: str, ending: str) -> str:
    return name.removeprefix(PREFIX) + ending


def _save(image: Any, path: Path) -> None:
    """Write an image as PNG, or beside that path as TIFF where it has floats or more than 16 bits."""
    if image.mode == "I":
        least, most = image.getextrema()
        image = image.convert("I;16") if 0 <= least <= most < 2**16 else image
    form, ending = ("TIFF", TIFF) if image.mode in ("F", "I") else ("PNG", PNG)
    path = path.with_suffix(ending)
    if not path.exists():
        with written(path) as partial:
            image.save(partial, form)


@dataclass(frozen=True)
class _Paths:
    folder: Path

    def __call__(self, name: str) -> str:
        deep = self.folder / _file(name, TIFF)
        return str(deep if deep.exists() else self.folder / _file(name, PNG))


@dataclass(frozen=True)
class Replaced:
    """A function of batches that puts something in the place of every name of an image, however deep it lies.

    Args:
        value (`Callable[[str], Any]`): of a name.
    """

    value: Callable[[str], Any]

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch with other values in the place of names."""
        return {name: self._of(values) for name, values in batch.items()}

    def _of(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.value(value) if is_name(value) else value
        if isinstance(value, Mapping):
            return {name: self._of(part) for name, part in value.items()}
        return [self._of(part) for part in value] if isinstance(value, list) else value


@dataclass(frozen=True, kw_only=True)
class Album:
    """Where images are, by their names.

    Args:
        columns (`tuple[Dataset, ...]`): a column of images, or of lists of images, each; Arrow-formatted.
        names (`np.ndarray`): (n,) their names, sorted.
        places (`np.ndarray`): (n, 3) int64, which column, row, and place in the list of each.
    """

    columns: tuple[Dataset, ...]
    names: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, sources: Sequence[Dataset]) -> Album:
        """Find the images in all columns of some datasets; of equal ones the first.

        Raises:
            ConfigError: there is no column of images.
        """
        columns = tuple(
            rows.select_columns([part.name]).with_format("arrow")
            for rows in sources
            for part in rows.features.arrow_schema
            if holds_pictures(part.type)
        )
        if not columns:
            raise ConfigError(
                "with_images() got no dataset with a column of images; those of datasets.Image are allowed. Give the "
                "corpus, and the pairs where their queries or positives are images."
            )
        named = [_listed(number, column) for number, column in enumerate(columns)]
        names, places = (np.concatenate(parts) for parts in zip(*named, strict=True))
        names, first = np.unique(names, return_index=True)
        return cls(columns=columns, names=names, places=places[first])

    def stored(self, name: str) -> dict[str, Any]:
        """The image of that name as it is stored.

        Raises:
            DataError: there is none.
        """
        self.check([name])
        number, row, inside = self.places[np.searchsorted(self.names, name.encode())].tolist()
        value = self.columns[number][row].column(0)[0].as_py()
        return value[inside] if isinstance(value, list) else value

    def opened(self, name: str) -> Any:
        """The image of that name, as PIL opens it."""
        return Picture(name, self.stored(name)).opened()

    def check(self, names: Sequence[str]) -> None:
        """Raise for images that are nowhere.

        Raises:
            DataError: naming the first of them.
        """
        wanted = np.array([name.encode() for name in names], self.names.dtype)
        missing = np.flatnonzero(~isin_sorted(wanted, self.names)[1])
        if len(missing):
            raise DataError(
                f"{len(missing):,} of {len(names):,} images that rows name are in none of the datasets, such as "
                f"{names[missing[0]]!r}. Give the corpus that was mined, and the pairs where those are images."
            )


def _listed(number: int, column: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The names of the images of a column, and their places."""
    name, start = column.column_names[0], 0
    names, places = [np.zeros(0, "S38")], [np.zeros((0, 3), np.int64)]
    for table in column.iter(READ):
        texts = as_text(table.column(0), name)
        owner, values = flat_texts(texts, name, start) if is_listed(texts.type) else _valid(texts)
        inside = np.arange(len(owner)) - np.searchsorted(owner, owner)
        names.append(np.array([value.encode() for value in values.to_pylist()], "S38"))
        places.append(np.stack([np.full(len(owner), number), owner + start, inside], axis=1))
        start += table.num_rows
    return np.concatenate(names), np.concatenate(places)


def _valid(texts: pa.Array) -> tuple[np.ndarray, pa.Array]:
    return np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False)), texts.drop_null()


def _names_in(dataset: Dataset) -> list[str]:
    """Every name of an image in some rows, once, by first appearance."""
    names: dict[str, None] = {}

    def noted(name: str) -> str:
        names.setdefault(name)
        return name

    note = Replaced(noted)
    schema = dataset.features.arrow_schema
    texts = [part.name for part in schema if not holds_pictures(part.type)]
    for batch in dataset.select_columns(texts).with_format(None).iter(READ):
        note(batch)
    return list(names)


def with_names(dataset: Dataset, columns: Sequence[str]) -> Dataset:
    """The rows with the names of images in the place of images, in some columns; Arrow-formatted where there are any.

    Args:
        dataset (`Dataset`): the rows.
        columns (`Sequence[str]`): their names; columns of texts stay as they are.
    """
    pictured = image_columns(dataset, columns, listed=True)
    if not pictured:
        return dataset
    return dataset.with_format("arrow").map(_Named(tuple(pictured)), batched=True, batch_size=READ)


def rows_with_names(dataset: Dataset, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of `with_names` as Python values, of which nothing is stored."""
    named = _Named(tuple(image_columns(dataset, columns, listed=True)))
    for table in dataset.with_format("arrow").iter(READ):
        yield from named(table).to_pylist()


@dataclass(frozen=True)
class _Named:
    columns: tuple[str, ...]

    def __call__(self, table: pa.Table) -> pa.Table:
        named = {name: as_text(table.column(name), name) for name in self.columns}
        kept = {name: table.column(name) for name in table.column_names}
        return pa.table({**kept, **{name: combined(values) for name, values in named.items()}})
