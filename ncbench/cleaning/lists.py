"""Writing the lists of kept, doubtful and dropped pairs: all columns of the input, and what was found out."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ncbench.cleaning.inputs.opening import Source
from ncbench.cleaning.verdicts import VERDICTS
from ncbench.errors import UserError
from ncbench.runtime.files import write_atomic

FORMATS = (".parquet", ".csv", ".tsv", ".jsonl")
ROW_GROUP_BYTES = 2**24
SOURCE_FILE, SOURCE_ROW = "source_file", "source_row"


def files_of(out: Path) -> dict[str, Path]:
    """Return the file of each list: `kept.csv`, `kept.review.csv` and `kept.dropped.csv` for `kept.csv`."""
    return {name: out if name == "kept" else out.with_name(f"{out.stem}.{name}{out.suffix}") for name in VERDICTS}


@dataclass(frozen=True)
class Added:
    """A column to add: one value for each pair, or for each row if `of_rows`."""

    name: str
    values: Sequence[Any] | NDArray[Any]
    kind: Any
    of_rows: bool = False


def check_format(out: Path, source: Source, added: Sequence[str]) -> None:
    """Raise UserError unless `source` and the columns `added` can be written to a file like `out`."""
    if out.suffix not in FORMATS:
        raise UserError(f"--out {out}: unknown file type; expected {', '.join(FORMATS)}")
    taken = [name for name in added if name in source.schema.names]
    if taken:
        raise UserError(
            f"{source.name}: already has a column {taken[0]!r}, which would be added; rename it, or clean the input "
            "that this list was made from"
        )
    for field in source.schema:
        nested = pa.types.is_nested(field.type) or pa.types.is_binary(field.type)
        if nested and out.suffix in (".csv", ".tsv") and not _is_left_out(source, field.name):
            raise UserError(
                f"--out {out}: column {field.name!r} ({field.type}) cannot be a cell of text; use --out "
                f"{out.with_suffix('.parquet')}"
            )
        if out.suffix == ".jsonl" and pa.types.is_binary(field.type):
            raise UserError(
                f"--out {out}: column {field.name!r} ({field.type}) cannot be JSON; use --out "
                f"{out.with_suffix('.parquet')}"
            )


def _is_left_out(source: Source, name: str) -> bool:
    """Return whether a text file goes without a column: a matrix of an .npz file, which rows are looked up in."""
    return source.name.endswith(".npz") and name in (source.columns.image_vectors, source.columns.text_vectors)


class _Writer(Protocol):
    def write(self, batch: Any) -> None: ...

    def close(self) -> None: ...


class _Text:
    """Writes cells of text, as they were in the input."""

    def __init__(self, file: Any, schema: Any, delimiter: str) -> None:
        self._file = io.TextIOWrapper(file, "utf-8", errors="replace", newline="", write_through=True)
        self._writer = csv.writer(self._file, delimiter=delimiter, lineterminator="\n")
        self._writer.writerow(schema.names)

    def write(self, batch: Any) -> None:
        columns = [column.to_pylist() for column in batch.columns]
        self._writer.writerows([_cell(value) for value in row] for row in zip(*columns, strict=True))

    def close(self) -> None:
        self._file.flush()
        self._file.detach()


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else value


class _Json:
    """Writes one JSON object per line."""

    def __init__(self, file: Any, schema: Any) -> None:
        self._file = file

    def write(self, batch: Any) -> None:
        for row in batch.to_pylist():
            self._file.write(json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n")

    def close(self) -> None:
        pass


class _Parquet:
    """Writes row groups of at least ROW_GROUP_BYTES: groups as small as batches make a file slow to open."""

    def __init__(self, file: Any, schema: Any) -> None:
        self._writer = pq.ParquetWriter(file, schema)
        self._waiting: list[Any] = []
        self._bytes = 0

    def write(self, batch: Any) -> None:
        self._waiting.append(batch)
        self._bytes += batch.nbytes
        if self._bytes >= ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting))
        self._waiting, self._bytes = [], 0


def _writer(file: Any, schema: Any, suffix: str) -> _Writer:
    if suffix == ".parquet":
        return _Parquet(file, schema)
    return _Json(file, schema) if suffix == ".jsonl" else _Text(file, schema, "\t" if suffix == ".tsv" else ",")


def write_lists(
    source: Source, counts: NDArray[np.int64], verdicts: NDArray[np.int8], added: Sequence[Added], out: Path
) -> dict[str, Path]:
    """Write the pairs of each verdict to its file, in the order of the input; return the files. Raises OSError.

    A row with a list of captions, `counts` of them, keeps those of the verdict; what is added is then a list too.
    Files appear when all are complete.
    """
    paths = files_of(out)
    with ExitStack() as stack:
        writers: dict[int, _Writer] = {}
        for number, path in enumerate(paths.values()):
            file = stack.enter_context(_appearing(path))
            writers[number] = _LazyWriter(file, out.suffix)
        starts = np.concatenate([[0], np.cumsum(counts)])
        names = [name for name in source.schema.names if out.suffix == ".parquet" or not _is_left_out(source, name)]
        # A batch without columns has no rows, so one that is left out is read if there is no other.
        for first, batch in source.batches(names or source.schema.names[:1]):
            rows = slice(first, first + batch.num_rows)
            pairs = slice(int(starts[rows.start]), int(starts[rows.stop]))
            for number, writer in writers.items():
                chosen = _of_verdict(source, batch, rows, pairs, counts, verdicts == number, added)
                writer.write(chosen.select([*names, *(each.name for each in added)]))
        for writer in writers.values():
            writer.close()
    return paths


class _LazyWriter:
    """Opens a writer when the types of the columns are known."""

    def __init__(self, file: Any, suffix: str) -> None:
        self._file, self._suffix = file, suffix
        self._writer: _Writer | None = None

    def write(self, batch: Any) -> None:
        if self._writer is None:
            self._writer = _writer(self._file, batch.schema, self._suffix)
        if batch.num_rows:
            self._writer.write(batch)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


@contextmanager
def _appearing(path: Path) -> Iterator[Any]:
    """Yield a file that becomes `path` when the context ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent) as file:
        yield file
        file.seek(0)

        def copy(target: Any) -> None:
            while chunk := file.read(2**20):
                target.write(chunk)

        write_atomic(path, copy)


def _of_verdict(
    source: Source,
    batch: Any,
    rows: slice,
    pairs: slice,
    counts: NDArray[np.int64],
    chosen: NDArray[np.bool_],
    added: Sequence[Added],
) -> Any:
    """Return the rows of a batch that have chosen pairs, with these pairs only, and the added columns."""
    keep = chosen[pairs]
    row_of_pair = np.repeat(np.arange(batch.num_rows), counts[rows])
    left = np.bincount(row_of_pair[keep], minlength=batch.num_rows)
    kept_rows = np.flatnonzero(left)
    lists = _is_list(source.schema.field(source.columns.captions).type) if source.columns.captions else False
    offsets = pa.array(np.concatenate([[0], np.cumsum(left[kept_rows])]).astype(np.int32))
    arrays: dict[str, Any] = {}
    for name in batch.schema.names:
        column = batch.column(name)
        if lists and (name == source.columns.captions or _holds_caption_vectors(source, name, column.type)):
            judged = column.filter(pa.array(counts[rows] > 0))  # without rows whose picture was left out
            values = judged.flatten().filter(pa.array(keep))
            arrays[name] = pa.ListArray.from_arrays(offsets, values)
            if arrays[name].type != column.type:
                arrays[name] = arrays[name].cast(column.type)
        else:
            arrays[name] = column.take(pa.array(kept_rows))
    for each in added:
        if each.of_rows:
            values = pa.array(_taken(each.values, kept_rows + rows.start), each.kind)
            arrays[each.name] = values
            continue
        values = pa.array(_taken(each.values, np.flatnonzero(keep) + pairs.start), each.kind)
        arrays[each.name] = pa.ListArray.from_arrays(offsets, values) if lists else values
    return pa.record_batch(list(arrays.values()), names=list(arrays))


def _holds_caption_vectors(source: Source, name: str, kind: Any) -> bool:
    return name == source.columns.text_vectors and _is_list(kind) and _is_list(kind.value_type)


def _taken(values: Sequence[Any] | NDArray[Any], numbers: NDArray[np.int64]) -> Any:
    return values[numbers] if isinstance(values, np.ndarray) else [values[number] for number in numbers]


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
