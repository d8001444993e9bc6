"""Converting Arrow columns to features and captions. Errors name the row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ncbench.data.captions_file import MAX_CAPTION_CHARACTERS
from ncbench.data.feature_sizes import bad_size, first_bad_row
from ncbench.errors import UserError

Column: TypeAlias = Any  # of pyarrow, which has no types
Block: TypeAlias = NDArray[Any]  # of float16 or float32
Place: TypeAlias = Callable[[int], str]


def vectors(column: Column, name: str, place: Place, regions: int = 0) -> Block:
    """Return the vectors (n, R, D) of a column of lists or nested lists, in float16 if stored so, else float32.

    A flat list is one region, or the concatenation of `regions` regions. `place(i)` describes the location of row i in
    messages. Raises UserError for other types, missing values, differing lengths, and numbers that are not finite, or
    absurd.
    """
    block = _block(column, name, place)
    if block.ndim == 2:
        parts = regions or 1
        if block.shape[1] % parts:
            raise UserError(
                f"{place(0)}: {name!r} has {block.shape[1]} numbers, which cannot be split into {parts} regions"
            )
        block = block.reshape(len(block), parts, -1)
    elif regions and block.shape[1] != regions:
        raise UserError(f"{place(0)}: {name!r} has {block.shape[1]} regions, expected {regions}")
    return sound(block, name, place)


def sound(block: Block, name: str, place: Place) -> Block:
    """Return `block`. Raises UserError unless all numbers are finite, and none is absurd."""
    if found := first_bad_row(block):
        raise UserError(f"{place(found[0])}: {name!r} {bad_size(found[1])}; fix the row or remove it")
    return block


def texts(column: Column, name: str, place: Place) -> list[list[str]]:
    """Return the captions of each row of a column of strings or lists of strings, stripped of whitespace.

    Raises UserError for other types, rows without captions, and captions that are empty, too long or not UTF-8.
    """
    column = _plain_texts(column)
    kind = column.type
    is_list = _is_list(kind)
    if not _is_text(kind.value_type if is_list else kind):
        raise UserError(f"{place(0)}: {name!r} has type {kind}, expected a string or a list of strings")
    found = []
    for row in range(len(column)):
        try:
            value = column[row].as_py()
        except UnicodeDecodeError as error:
            raise UserError(f"{place(row)}: a caption in {name!r} is not UTF-8 ({error.reason})") from error
        captions = (value or []) if is_list else [value]
        if not captions:
            raise UserError(f"{place(row)}: no captions in {name!r}; add one or remove the row")
        stripped = [(caption or "").strip() for caption in captions]
        if not all(stripped):
            raise UserError(f"{place(row)}: empty caption in {name!r}; add text or remove it")
        if max(map(len, stripped)) > MAX_CAPTION_CHARACTERS:
            raise UserError(f"{place(row)}: a caption in {name!r} has more than {MAX_CAPTION_CHARACTERS:,} characters")
        found.append(stripped)
    return found


def caption_vectors(column: Column, name: str, counts: Sequence[int], place: Place) -> Block:
    """Return the caption vectors (captions, T) of rows with `counts` captions each. Raises UserError as `vectors`."""
    array = _storage(column)
    rows = np.repeat(np.arange(len(counts)), counts)
    if _is_list(array.type) and _is_list(_storage_type(array.type.value_type)):
        _refuse_missing(array, name, place)
        lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
        if (lengths != counts).any():
            row = int(np.argmax(lengths != counts))
            raise UserError(f"{place(row)}: found {lengths[row]} vectors in {name!r} for {counts[row]} captions")
        array = array.flatten()
    elif max(counts, default=1) > 1:
        row = int(np.argmax(counts))
        raise UserError(
            f"{place(row)}: found one vector in {name!r} for {counts[row]} captions, expected one per caption"
        )

    def of_caption(number: int) -> str:
        return place(int(rows[number]))

    block = _block(array, name, of_caption)
    if block.ndim != 2:
        raise UserError(
            f"{place(0)}: expected one vector per caption in {name!r}, found lists of {block.ndim - 1} levels"
        )
    return sound(block, name, of_caption)


def identities(column: Column, name: str, place: Place) -> list[str]:
    """Return the ids of rows as strings. Raises UserError for missing ids."""
    _refuse_missing(column, name, place)
    return [str(value) for value in column.to_pylist()]


def _block(column: Column, name: str, place: Place) -> Block:
    """Return a column of nested lists of numbers as an array (n, ...)."""
    array = _storage(column)
    shape = [len(array)]
    while _is_list(array.type):
        each = int(np.prod(shape[1:]))

        def of_item(item: int, each: int = each) -> str:
            return place(item // each)

        _refuse_missing(array, name, of_item)
        lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
        if len(lengths) and (lengths != lengths[0]).any():
            item = int(np.argmax(lengths != lengths[0]))
            raise UserError(
                f"{of_item(item)}: {name!r} has a list of length {lengths[item]}, others have {lengths[0]}; "
                "all rows must have the same shape; if regions vary in number, cut those of each image to one, "
                "such as 36"
            )
        shape.append(int(lengths[0]) if len(lengths) else 0)
        array = _storage(array.flatten())
    number = pa.types.is_floating(array.type) or pa.types.is_integer(array.type)
    if len(shape) not in (2, 3) or not number:
        raise UserError(f"{place(0)}: {name!r} has type {column.type}, expected a list of numbers or a list of lists")
    if 0 in shape[1:]:
        raise UserError(f"{place(0)}: {name!r} is empty, expected a list of numbers or a list of lists")
    each = int(np.prod(shape[1:]))
    _refuse_missing(array, name, lambda item: place(item // each))
    values = array.to_numpy(zero_copy_only=False)
    dtype = np.float16 if values.dtype == np.float16 else np.float32
    with np.errstate(over="ignore"):  # overflow becomes infinity, which `sound` refuses
        return np.ascontiguousarray(values, dtype).reshape(shape)


def _plain_texts(column: Column) -> Column:
    """Return a column of texts, or of lists of them, without views and dictionaries; any other as it is."""
    column = _storage(column)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    item = kind.value_type if _is_list(kind) else kind
    if pa.types.is_dictionary(item):
        item = item.value_type
    if not (_is_text(item) or pa.types.is_string_view(item)):
        return column
    plain = pa.list_(pa.string()) if _is_list(kind) else pa.string()
    return column if kind == plain else column.cast(plain)


def _refuse_missing(array: Column, name: str, place: Place) -> None:
    if array.null_count:
        row = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
        raise UserError(f"{place(row)}: missing value (null) in {name!r}; fill it or remove the row")


def _storage(array: Column) -> Column:
    while isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    return array


def _storage_type(kind: Any) -> Any:
    while isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return kind


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
