"""Reading what is judged: captions, images and vectors of all rows, in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ncbench.cleaning.inputs.opening import Source
from ncbench.data.dataset import ImageFeatures, IntVector
from ncbench.data.imported import columns as arrow
from ncbench.data.imported.descriptors import Describe, descriptor
from ncbench.data.imported.pictures import (
    BadPictureError,
    Picture,
    SkippedPictures,
    decode,
    picture_bytes,
    read_below,
)
from ncbench.errors import UserError

DESCRIBED = 32
"""Pictures that are described at a time."""


@dataclass(frozen=True)
class Content:
    """What was read of a source. Pair p is a caption of row `rows[p]` with image `claimed[p]`.

    `counts` (rows,) are the captions of each row. `texts` (pairs,) is None if there are only vectors; `ids` (rows,) is
    None without a column of ids. `first_rows` (images,) is a row with each image, `names` (images,) its file, "" if it
    has none. `features` are those of the images, `vectors` (pairs, T) those of captions, or None. `skipped` says which
    pictures were left out and why; their rows count no captions.
    """

    rows: IntVector
    counts: IntVector
    claimed: IntVector
    texts: list[str] | None
    ids: list[str] | None
    first_rows: IntVector
    names: list[str]
    features: ImageFeatures
    vectors: NDArray[Any] | None
    skipped: Sequence[str] = ()


class _Appended:
    """Blocks of rows of one shape, appended to a file."""

    def __init__(self, path: Path) -> None:
        self._path, self._rows = path, 0
        self._shape: tuple[int, ...] = ()
        self._dtype: Any = None

    def add(self, block: NDArray[Any], where: str) -> None:
        """Write a block. Raises UserError for another shape than before."""
        if self._dtype is None:
            self._shape, self._dtype = block.shape[1:], block.dtype
        if block.shape[1:] != self._shape:
            raise UserError(f"{where} and later rows: found vectors {block.shape[1:]}, expected {self._shape}")
        with self._path.open("ab") as file:
            file.write(np.ascontiguousarray(block, self._dtype).data)
        self._rows += len(block)

    def done(self) -> NDArray[Any]:
        """Return all rows, memory-mapped."""
        return np.memmap(self._path, self._dtype, "r", shape=(self._rows, *self._shape))


def read_content(
    source: Source,
    folder: Path,
    features: str = "builtin",
    on_progress: Callable[[float], None] = lambda _: None,
    skip_bad: bool = False,
) -> Content:
    """Return the content of all rows of `source`; arrays are files in `folder`.

    Pictures are described by `features` (see `ncbench.data.imported.descriptors`). Images that are the same, by the
    name of their file or by their bytes, are one image. With `skip_bad`, rows whose pictures cannot be read are left
    out. Raises UserError for invalid rows.
    """
    names, describe = source.columns, None if source.columns.image_vectors else descriptor(features)
    seen: dict[bytes, int] = {}
    skipped, unreadable = SkippedPictures(skip_bad, "--pictures DIR"), set[bytes]()
    of_images, of_captions = _Appended(folder / "features.bin"), _Appended(folder / "vectors.bin")
    image_of_row, counts, first_rows, files = list[int](), list[int](), list[int](), list[str]()
    texts: list[str] = []
    ids: list[str] = []
    for first, batch in source.batches(names.used):
        place = partial(_place, source, first)
        keys, labels = _image_keys(batch, source, place, skipped)
        firsts = {key: row for row, key in reversed([*enumerate(keys)]) if _is_new(key, seen, unreadable)}
        new = sorted(firsts.values())
        for chosen in (new[start : start + DESCRIBED] for start in range(0, len(new), DESCRIBED)):
            block, good = _features(batch.take(pa.array(chosen)), source, describe, place, chosen, skipped)
            for row, is_good in zip(chosen, good, strict=True):
                key = keys[row]
                assert key is not None
                if is_good:
                    seen[key] = len(seen)
                    first_rows.append(first + row)
                    files.append(labels[row])
                else:
                    unreadable.add(key)
            if len(block):
                of_images.add(block, place(chosen[0]))
        image_of_row += [-1 if key is None else seen.get(key, -1) for key in keys]
        kept = np.array(image_of_row[first:]) >= 0
        captions = [[""]] * batch.num_rows
        if names.captions:
            captions = arrow.texts(_plain_text(batch.column(names.captions)), names.captions, place)
            texts += [caption for each, keep in zip(captions, kept, strict=True) if keep for caption in each]
        found = np.array([*map(len, captions)], np.int64)
        counts += np.where(kept, found, 0).tolist()
        if names.text_vectors:
            block = arrow.caption_vectors(
                batch.column(names.text_vectors), names.text_vectors, found.tolist(), partial(place)
            )
            of_captions.add(block[np.repeat(kept, found)], place(0))
        if names.ids:
            ids += arrow.identities(batch.column(names.ids), names.ids, place)
        on_progress((first + batch.num_rows) / source.n_rows)
    if not seen:
        raise UserError(f"{source.name}: no picture can be read ({skipped.lines[0]})")
    of_rows = np.array(counts, np.int64)
    rows = np.repeat(np.arange(len(of_rows)), of_rows)
    return Content(
        rows=rows,
        counts=of_rows,
        claimed=np.array(image_of_row, np.int64)[rows],
        texts=texts if names.captions else None,
        ids=ids if names.ids else None,
        first_rows=np.array(first_rows, np.int64),
        names=files,
        features=ImageFeatures([of_images.done()]),
        vectors=of_captions.done() if names.text_vectors else None,
        skipped=skipped.lines,
    )


def picture_contents(source: Source, rows: IntVector) -> Iterator[tuple[int, bytes]]:
    """Yield the number of a row and the encoded picture in it, for `rows` of a source with pictures."""
    wanted = set(rows.tolist())
    name = source.columns.images
    for first, batch in source.batches([name]):
        chosen = [row for row in range(batch.num_rows) if first + row in wanted]
        if chosen:
            held = batch.column(name).take(pa.array(chosen))
            found = _pictures(held, source, partial(_place, source, first))
            yield from ((first + row, content) for row, content in zip(chosen, found, strict=True))


def file_in(root: Path, name: str) -> str:
    """Return the name of a picture file, without a number of its caption (`1.jpg#0`) if that is not part of it."""
    name = name.strip()
    stem, mark, number = name.rpartition("#")
    return stem if mark and number.isdecimal() and not (root / name).exists() else name


def _place(source: Source, first: int, row: int) -> str:
    return source.place(first + row)


def _image_keys(
    batch: Any, source: Source, place: Callable[[int], str], skipped: SkippedPictures
) -> tuple[list[bytes | None], list[str]]:
    """Return what identifies the image of each row, None if it has none, and the name of its file or ""."""
    names = source.columns
    nameless = [""] * batch.num_rows
    if names.image_vectors:
        block = arrow.vectors(batch.column(names.image_vectors), names.image_vectors, place)
        keys: list[bytes | None] = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in block]
        if names.images and _is_text(batch.column(names.images).type):
            return keys, [value or "" for value in batch.column(names.images).to_pylist()]
        return keys, nameless
    column = batch.column(names.images)
    if _is_text(column.type):
        if source.root is None:
            raise UserError(f"{place(0)}: {names.images!r} holds names of files; say where they are: --pictures DIR")
        files = [file_in(source.root, value or "") for value in column.to_pylist()]
        for row, file in enumerate(files):
            if not file:
                told = f"{place(row)}: no picture in {names.images!r}; add one or remove the row"
                skipped.add(BadPictureError(told))
        return [file.encode() if file else None for file in files], files
    held = [_or_skipped(column, row, source, place, skipped) for row in range(len(column))]
    values = column.to_pylist()
    paths = [(value.get("path") or "") if isinstance(value, dict) else "" for value in values]
    return [None if each is None else hashlib.blake2b(each, digest_size=16).digest() for each in held], paths


def _is_new(key: bytes | None, seen: Mapping[bytes, int], unreadable: Set[bytes]) -> bool:
    return key is not None and key not in seen and key not in unreadable


def _or_skipped(
    column: Any, row: int, source: Source, place: Callable[[int], str], skipped: SkippedPictures
) -> bytes | None:
    """Return the encoded picture in a row of a column; None, noted in `skipped`, if there is none."""
    try:
        return _pictures(column.slice(row, 1), source, lambda _: place(row))[0]
    except BadPictureError as error:
        skipped.add(error)
        return None


def _features(
    batch: Any,
    source: Source,
    describe: Describe | None,
    place: Callable[[int], str],
    rows: list[int],
    skipped: SkippedPictures,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the features (good, R, D) of the images of a batch, and which of them are good.

    Its rows are `rows` of the one that `place` is for; the others are noted in `skipped`.
    """
    good = np.ones(len(rows), np.bool_)

    def place_of(row: int) -> str:
        return place(rows[row])

    if describe is None:
        name = source.columns.image_vectors
        return arrow.vectors(batch.column(name), name, place_of), good
    column = batch.column(source.columns.images)

    def readable() -> Iterator[Picture]:
        for row in range(len(rows)):
            content = _or_skipped(column, row, source, place_of, skipped)
            try:
                if content is not None:
                    yield decode(content, f"{place_of(row)}{_named(column, row)}")
                    continue
            except BadPictureError as error:
                skipped.add(error)
            good[row] = False

    pictures = readable()
    first = next(pictures, None)
    block = np.zeros((0, 1, 1), np.float32) if first is None else describe(chain([first], pictures))
    return block, good


def _named(column: Any, row: int) -> str:
    """Return the file of the picture in a row, for messages; "" if it has none."""
    value = column[row].as_py()
    name = value.get("path") if isinstance(value, dict) else value
    return f", {name!r}" if isinstance(name, str) and name else ""


def _pictures(column: Any, source: Source, place: Callable[[int], str]) -> list[bytes]:
    if not _is_text(column.type):
        return picture_bytes(column, source.columns.images, source.root, place)
    assert source.root is not None  # checked when the rows were read
    return [
        read_below(source.root, file_in(source.root, name), place(row)) for row, name in enumerate(column.to_pylist())
    ]


def _plain_text(column: Any) -> Any:
    """Return a column of text in a type that the readers of `ncbench.data` know."""
    return column.cast(pa.large_string()) if pa.types.is_string_view(column.type) else column


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
