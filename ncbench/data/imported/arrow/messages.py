"""What the messages of an Arrow file say of themselves, before their content is read.

Compressed buffers state how much they unpack to, and pyarrow allocates that much at once. Source: "Serialization and
Interprocess Communication" of the Arrow Columnar Format, and its schema `Message.fbs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from flatbuffers import number_types as numbers
from flatbuffers.table import Table

from ncbench.errors import UserError

MAX_UNPACKED = 2**32
"""Bytes that a record batch and all dictionaries may unpack to: they are in memory as a whole."""

MAGIC = b"ARROW1\0\0"
"""The file format is this, a stream, and an index that is not needed."""

_HEADER, _LENGTH, _DICTIONARY, _BUFFERS, _COMPRESSION = 8, 4, 6, 8, 10  # fields of tables, as offsets in their index
_COMPRESSED_BEFORE_1_0 = b"ARROW:experimental_compression"
_BUFFER_BYTES, _PREFIX_BYTES = 16, 8  # of an offset and a length, and of the unpacked size before a buffer


def open_stream(path: Path) -> Any:
    """Return an Arrow file, memory-mapped, at the start of its stream. Raises OSError and ArrowException."""
    mapped = pa.memory_map(str(path))
    mapped.seek(len(MAGIC) if mapped.read(len(MAGIC)) == MAGIC else 0)
    return mapped


def count_rows(path: Path) -> int:
    """Return the number of rows of an Arrow file, by its record batches, whose content is not read.

    Raises UserError for more rows than bytes, and if a batch and the dictionaries unpack to more than MAX_UNPACKED;
    OSError and ArrowException for damaged files.
    """
    rows, dictionaries = 0, 0
    for message in _messages(path):
        if message.type not in ("record batch", "dictionary"):
            continue
        batch = _record_batch(message)
        size = dictionaries + _unpacked_size(message, batch)
        length = int(batch.GetSlot(_LENGTH, 0, numbers.Int64Flags))
        if message.type == "dictionary":
            dictionaries, what = size, "its dictionaries unpack"
        else:
            what = f"rows {rows} to {rows + length - 1} unpack"
            rows += length
        if size > MAX_UNPACKED:
            raise UserError(
                f"{path}: {what} to {size:,} bytes, more than the limit of {MAX_UNPACKED:,} for a batch; write it with "
                "smaller batches, or check the file"
            )
    check_rows(path, rows, path.stat().st_size)
    return rows


def check_rows(path: Path, rows: int, size: int) -> None:
    """Raise UserError if `rows` are claimed in `size` bytes that cannot all hold a pair."""
    if rows > size:
        raise UserError(f"{path}: claims {rows:,} rows in {size:,} bytes; check the file")


def _messages(path: Path) -> Iterator[Any]:
    yield from pa.ipc.MessageReader.open_stream(open_stream(path))


def _record_batch(message: Any) -> Table:
    """Return the RecordBatch of a message, whose structure Arrow has checked."""
    content = message.metadata.to_pybytes()
    root = Table(content, numbers.UOffsetTFlags.py_type(int.from_bytes(content[:4], "little")))
    header = _child(root, _HEADER)
    return _child(header, _DICTIONARY) if message.type == "dictionary" else header


def _child(table: Table, field: int) -> Table:
    return Table(table.Bytes, table.Indirect(table.Pos + table.Offset(field)))


def _unpacked_size(message: Any, batch: Table) -> int:
    """Return how many bytes the compressed buffers of a message unpack to; 0 if they are not compressed."""
    if not batch.Offset(_COMPRESSION) and _COMPRESSED_BEFORE_1_0 not in batch.Bytes:
        return 0
    body, field, size = memoryview(message.body), batch.Offset(_BUFFERS), 0
    start, count = (batch.Vector(field), batch.VectorLen(field)) if field else (0, 0)
    for place in range(start, start + count * _BUFFER_BYTES, _BUFFER_BYTES):
        offset, length = (batch.Get(numbers.Int64Flags, place + half) for half in (0, 8))
        stated = int.from_bytes(body[offset : offset + _PREFIX_BYTES], "little", signed=True) if length else 0
        size += max(stated, length)  # -1: not compressed after all
    return size
