"""Checking batches of rows: that they are valid, and of a size that can be held in memory and copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ncbench.data.imported.arrow.messages import MAX_UNPACKED
from ncbench.errors import UserError

VIEW_BYTES = 16


def check_batch(batch: Any, first: int, where: str) -> None:
    """Raise UserError for rows with invalid offsets, text that is not UTF-8, or more than MAX_UNPACKED bytes.

    `batch` is a batch or a table of a few rows, of which the first is number `first`. A text that several cells share
    counts for each of them, as it is copied with them.
    """
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as whole:
        for row in range(batch.num_rows):
            try:
                batch.slice(row, 1).validate(full=True)
            except pa.ArrowInvalid as error:
                raise UserError(
                    f"{where}, row {first + row}: cannot be read ({error}); fix the row or remove it"
                ) from error
        raise UserError(f"{where}, row {first} or later: cannot be read ({whole}); write the file again") from whole
    check_size(batch, first, where)


def check_size(batch: Any, first: int, where: str) -> None:
    """Raise UserError for rows of more than MAX_UNPACKED bytes, as `check_batch`."""
    size = sum(_cell_bytes(part) for column in batch.columns for part in _parts(column))
    if size > MAX_UNPACKED:
        raise UserError(
            f"{where}, rows {first} to {first + batch.num_rows - 1}: have {size:,} bytes, more than the limit of "
            f"{MAX_UNPACKED:,} for a batch; check the file"
        )


def _parts(column: Any) -> list[Any]:
    return list(column.chunks) if isinstance(column, pa.ChunkedArray) else [column]


def _cell_bytes(array: Any) -> int:
    """Return the size of the cells of `array`, each with a copy of its own of what they share."""
    while isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    kind = array.type
    if pa.types.is_dictionary(kind):
        if _is_text(kind.value_type):
            return _sum(pc.binary_length(array.dictionary).take(array.indices))
        return len(array) * int(array.dictionary.nbytes)
    if pa.types.is_run_end_encoded(kind):
        return len(array) * int(array.values.nbytes)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return _viewed_bytes(array)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return int(array.nbytes) if _is_plain(kind.value_type) else _cell_bytes(array.flatten())
    if pa.types.is_struct(kind):
        return sum(map(_cell_bytes, array.flatten()))
    return int(array.nbytes)


def _viewed_bytes(array: Any) -> int:
    """Return the size of the texts of a view array; pyarrow has no function for it. Each view starts with a length."""
    views = np.frombuffer(array.buffers()[1], np.int32).reshape(-1, VIEW_BYTES // 4)
    lengths = views[array.offset : array.offset + len(array), 0].astype(np.int64)
    return int(lengths[array.is_valid().to_numpy(zero_copy_only=False)].sum())


def _sum(lengths: Any) -> int:
    return int(pc.sum(lengths.cast(pa.int64())).as_py() or 0)


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_binary(kind))


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_plain(kind: Any) -> bool:
    return bool(pa.types.is_primitive(kind) or _is_text(kind))
