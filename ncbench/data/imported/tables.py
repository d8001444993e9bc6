"""Reading tables in batches: parquet and Arrow files, saved datasets, and datasets on the hub."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from ncbench.data.imported.arrow.batches import check_batch, check_size
from ncbench.data.imported.arrow.messages import MAX_UNPACKED, check_rows, count_rows, open_stream
from ncbench.data.imported.arrow.saved_folder import DATASET_MARKERS, check_saved
from ncbench.data.imported.folder import picture_files, read_folder
from ncbench.data.imported.request import Request
from ncbench.data.imported.split_names import files_below, files_by_split
from ncbench.data.stand_ins import check_data_file
from ncbench.errors import UserError

RecordBatch: TypeAlias = Any  # of pyarrow, which has no types
Schema: TypeAlias = Any

BATCH_ROWS = 128
MAX_ROW_BYTES = 2**25
"""Mean size of the rows of a row group, unpacked: BATCH_ROWS of them must fit into memory."""

MIN_NUMBER_BYTES = 2
MAX_RATIO = 1000
"""Of unpacked to compressed bytes of a column that has more than MAX_UNPACKED: features do not repeat themselves."""

MAX_FOOTER_BYTES = 2**28
TEXTS = ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")  # the types of parquet for texts and pictures
_FOOTER_END = b"PAR1"
_SUFFIXES = (".parquet", ".arrow")
_CONVERTIBLE = {".csv": "csv", ".json": "json", ".jsonl": "json"}  # by `datasets`


class Table(Protocol):
    """Rows of named columns."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def schema(self) -> Schema:
        """Names and types of the columns."""
        ...

    def batches(self, columns: Sequence[str]) -> Iterator[RecordBatch]:
        """Yield all rows of `columns` in order, at most BATCH_ROWS at a time. Raises UserError for damaged files."""
        ...

    def place(self, row: int) -> str:
        """Return the location of a row, for messages."""
        ...


class Files:
    """The rows of consecutive parquet or Arrow files."""

    def __init__(self, paths: Sequence[Path]) -> None:
        for path in paths:
            check_data_file(path)
        self._files = [_ArrowFile(path) if path.suffix.lower() == ".arrow" else _ParquetFile(path) for path in paths]
        first = self._files[0]
        for file in self._files[1:]:
            if not file.schema.equals(first.schema):
                raise UserError(f"{file.path}: columns or types differ from those of {first.path}")
        self._starts = [0, *accumulate(file.n_rows for file in self._files)]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self._starts[-1]

    @property
    def schema(self) -> Schema:
        """Names and types of the columns."""
        return self._files[0].schema

    def batches(self, columns: Sequence[str]) -> Iterator[RecordBatch]:
        """Yield all rows of `columns`."""
        for file in self._files:
            with reading(file.path):
                first = 0
                for batch in file.batches(columns):
                    check_batch(batch, first, str(file.path))
                    yield batch
                    first += batch.num_rows

    def place(self, row: int) -> str:
        """Return the file and the row in it."""
        number = bisect_right(self._starts, row) - 1
        return f"{self._files[number].path}, row {row - self._starts[number]}"


class _ParquetFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path):
            _check_footer(path)
            metadata = pq.read_metadata(path)
            self.n_rows: int = metadata.num_rows
            check_rows(path, self.n_rows, path.stat().st_size)
            self.schema = metadata.schema.to_arrow_schema().remove_metadata()

    def batches(self, columns: Sequence[str]) -> Iterator[RecordBatch]:
        # Without pre-buffering and with a small buffer, no row group is held in memory as a whole.
        with reading(self.path):
            metadata = pq.read_metadata(self.path)
            shared = _check_row_sizes(self.path, metadata, columns)
        first, options = 0, {"pre_buffer": False, "buffer_size": 2**20}
        with pq.ParquetFile(self.path, metadata=metadata, read_dictionary=shared, **options) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns), use_threads=False):
                if shared:
                    check_size(batch, first, str(self.path))  # before each cell gets a copy of its own
                    batch = pa.record_batch(
                        [batch[name].cast(self.schema.field(name).type) for name in columns], columns
                    )
                yield batch
                first += batch.num_rows


def _check_footer(path: Path) -> None:
    """Raise UserError for a parquet file whose last bytes claim a description too large to be held in memory."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - len(_FOOTER_END) - 4))
        size, end = int.from_bytes(file.read(4), "little"), file.read()
    if end == _FOOTER_END and size > MAX_FOOTER_BYTES:
        raise UserError(f"{path}: its footer has {size:,} bytes, more than the limit of {MAX_FOOTER_BYTES:,}")


def _check_row_sizes(path: Path, metadata: Any, columns: Sequence[str]) -> list[str]:
    """Raise UserError if the rows of `columns` are too large to be read in batches, by what the file says of them.

    Returns the paths of the texts that cells may share, so that copies for all cells could be too large.
    """
    first, shared = 0, set[str]()
    for number in range(metadata.num_row_groups):
        group, size = metadata.row_group(number), 0
        for part in (group.column(place) for place in range(group.num_columns)):
            if not any(f"{part.path_in_schema}.".startswith(f"{name}.") for name in columns):
                continue
            # A few encoded bytes can stand for many equal numbers, so that both are looked at.
            unpacked = max(part.total_uncompressed_size, MIN_NUMBER_BYTES * part.num_values)
            if unpacked > MAX_UNPACKED and unpacked > MAX_RATIO * part.total_compressed_size:
                raise UserError(
                    f"{path}: rows {first} to {first + group.num_rows - 1} hold {part.num_values:,} values of "
                    f"{part.path_in_schema} in {part.total_compressed_size:,} bytes; check the file"
                )
            if part.physical_type in TEXTS and part.num_values * part.total_uncompressed_size > MAX_UNPACKED:
                shared.add(part.path_in_schema)
            size += unpacked
        if size > MAX_ROW_BYTES * group.num_rows:
            raise UserError(
                f"{path}: rows {first} to {first + group.num_rows - 1} unpack to {size:,} bytes, more than the limit "
                f"of {MAX_ROW_BYTES:,} per row; check the file"
            )
        first += group.num_rows
    return sorted(shared)


class _ArrowFile:
    """An Arrow file in either format: a stream, as written by `datasets`, or the file format."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path):
            self.n_rows = count_rows(path)
            self.schema = pa.ipc.open_stream(open_stream(path)).schema.remove_metadata()

    def batches(self, columns: Sequence[str]) -> Iterator[RecordBatch]:
        for batch in pa.ipc.open_stream(open_stream(self.path)):
            for start in range(0, batch.num_rows, BATCH_ROWS):
                yield batch.select(list(columns)).slice(start, BATCH_ROWS)


class Saved:
    """The rows of a `datasets.Dataset`."""

    def __init__(self, dataset: Any, label: str) -> None:
        self._dataset, self._label = dataset, label

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self._dataset)

    @property
    def schema(self) -> Schema:
        """Names and types of the columns."""
        return self._dataset.data.schema.remove_metadata()

    def batches(self, columns: Sequence[str]) -> Iterator[RecordBatch]:
        """Yield all rows of `columns`."""
        chosen = self._dataset.select_columns(list(columns)).with_format("arrow")
        with reading(self._label):
            first = 0
            for table in chosen.iter(batch_size=BATCH_ROWS):
                check_batch(table, first, self._label)
                yield from table.combine_chunks().to_batches()
                first += table.num_rows

    def place(self, row: int) -> str:
        """Return the split and the row in it."""
        return f"{self._label}, row {row}"


@contextmanager
def reading(what: Path | str) -> Iterator[None]:
    """Turn any exception of Arrow and `datasets` into a UserError about `what`."""
    try:
        yield
    except (UserError, KeyboardInterrupt, GeneratorExit):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{what}: cannot be read ({reason}); copy or write it again") from error


def open_tables(request: Request) -> dict[str, Table]:
    """Return the tables of a source by split; a source without splits is `train`. Raises UserError."""
    path = request.path
    if request.captions_file:
        return dict(read_folder(path, request))
    if path is None:
        return _from_hub(request)
    if path.is_dir() and any((path / name).exists() for name in DATASET_MARKERS):
        return _saved(path)
    return {name: Files(paths) for name, paths in _files_by_split(path).items()}


def source_files(request: Request) -> list[Path]:
    """Return the files of a local source, and none for the hub. Raises UserError if there are none."""
    path = request.path
    if request.captions_file:
        return picture_files(path, request)
    if path is None:
        return []
    if path.is_dir() and any((path / name).exists() for name in DATASET_MARKERS):
        return sorted(file for file in [*path.glob("*"), *path.glob("*/*")] if file.is_file())
    return [file for files in _files_by_split(path).values() for file in files]


def _saved(path: Path) -> dict[str, Table]:
    import datasets

    with reading(path):
        check_saved(path)
        found = datasets.load_from_disk(str(path))
    parts = found if isinstance(found, dict) else {"train": found}
    return {name: Saved(part, f"{path}, split {name!r}") for name, part in parts.items()}


def _from_hub(request: Request) -> dict[str, Table]:
    import datasets

    name = request.source
    try:
        found = datasets.load_dataset(name, request.configuration or None, revision=request.revision or None)
    except Exception as error:  # from the network, the hub client, or the files
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            f"hf:{name}: no such file or folder, and it cannot be loaded from the hub ({reason})"
        ) from error
    parts = found if isinstance(found, dict) else {"train": found}
    return {split: Saved(part, f"{name}, split {split!r}") for split, part in parts.items()}


def _files_by_split(path: Path) -> dict[str, list[Path]]:
    """Return the files of each split, by the word that names it. Raises UserError as `files_by_split`."""
    if path.is_file():
        if path.suffix.lower() not in _SUFFIXES:
            raise UserError(
                f"{path}: unknown file type; expected {' or '.join(_SUFFIXES)}, or a folder of these{_remedy(path)}"
            )
        return {"train": [path]}
    if files := files_below(path, _SUFFIXES):
        return files_by_split(path, files)
    others = files_below(path, (*_CONVERTIBLE, ".npy", ".npz"))
    raise UserError(
        f"{path}: contains no dataset; expected one saved by `datasets`, or files "
        f"{', '.join('{train,dev,test}' + suffix for suffix in _SUFFIXES)}, or folders of these names"
        f"{_remedy(others[0]) if others else ''}"
    )


def _remedy(path: Path) -> str:
    """Return how to convert a file of another type that may hold features, as the end of a sentence."""
    kind = _CONVERTIBLE.get(path.suffix.lower())
    if kind is not None:
        return f'; convert it with datasets.Dataset.from_{kind}("{path.name}").to_parquet("{path.stem}.parquet")'
    if path.suffix.lower() in (".npy", ".npz"):
        return (
            "; write features to parquet, one row per image with as many regions each (cut them to one number, such as "
            "the 36 surest)"
        )
    return ""
