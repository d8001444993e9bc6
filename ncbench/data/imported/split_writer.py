"""Writing a split of the local store, in batches. `convert` says what its files hold."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np

from ncbench.data.dataset import IntVector, Origin
from ncbench.data.imported.columns import Block
from ncbench.data.imported.image_rows import Rows
from ncbench.data.imported.origins import ORIGINS_FILE, lines_of
from ncbench.errors import UserError


class SplitWriter:
    """Writes a split of `size` images to `folder`, in batches."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._size = folder, size
        self._arrays: dict[str, _ArrayWriter] = {}
        self._true: list[IntVector] = []
        self._ends: list[int] = []
        self._hash = hashlib.sha256()
        self._written = self._captions = 0
        self._stack = ExitStack()

    def __enter__(self) -> SplitWriter:
        self._folder.mkdir(parents=True)
        self._text_file = self._file("captions.jsonl")
        self._origins_file = self._file(ORIGINS_FILE)
        return self

    def add(self, rows: Rows, where: str) -> None:
        """Write rows; `where` locates them in messages. Raises UserError if their shape differs from earlier rows."""
        if not rows.captions:
            return
        self._array("features", rows.features, self._size, where)
        counts = list(map(len, rows.captions))
        self._true.append(np.repeat(np.arange(self._written, self._written + len(counts)), counts))
        lines = "".join(json.dumps(caption) + "\n" for caption in chain.from_iterable(rows.captions)).encode()
        self._hash.update(lines)
        self._text_file.write(lines)
        self._origins_file.write(lines_of(rows.origins or [Origin()] * len(counts)))
        if rows.vectors is not None:
            self._array("vectors", np.concatenate(rows.vectors), None, where)
        for content in rows.pictures or ():
            if not self._ends:
                self._picture_file = self._file("pictures.bin")
            self._picture_file.write(content)
            self._ends.append((self._ends[-1] if self._ends else 0) + len(content))
        self._written += len(counts)
        self._captions += sum(counts)

    def __exit__(self, kind: object, *_: object) -> None:
        with self._stack:
            for array in self._arrays.values():
                array.end()
        if kind is None and self._true:
            true = np.concatenate(self._true).astype("<i8")
            self._hash.update(true.tobytes())
            np.save(self._folder / "true.npy", true)
            if self._ends:
                np.save(self._folder / "pictures.npy", np.array(self._ends, "<i8"))

    @property
    def n_images(self) -> int:
        """Images written so far."""
        return self._written

    @property
    def facts(self) -> dict[str, Any]:
        """The manifest's entry for the split: counts, shapes, and digests of its content."""
        features, caption_vectors = self._arrays["features"], self._arrays.get("vectors")
        return {
            "captions": self._captions,
            "shape": [self._written, *features.shape],
            "dtype": features.dtype.name,
            "vector": 0 if caption_vectors is None else caption_vectors.shape[0],
            "pictures": bool(self._ends),
            "digests": {"texts": self._hash.hexdigest(), **{name: a.digest for name, a in self._arrays.items()}},
        }

    def _file(self, name: str) -> IO[bytes]:
        return self._stack.enter_context((self._folder / name).open("wb"))

    def _array(self, name: str, block: Block, size: int | None, where: str) -> None:
        writer = self._arrays.get(name)
        if writer is None:
            writer = self._arrays[name] = _ArrayWriter(self._file(f"{name}.npy"), block, size)
        writer.add(block, where)


class _ArrayWriter:
    """Appends blocks to a .npy file, and rewrites its header when the number of rows is known."""

    def __init__(self, file: IO[bytes], first: Block, size: int | None) -> None:
        self._file, self.shape, self.dtype = file, first.shape[1:], first.dtype
        self._rows, self._hash = 0, hashlib.sha256()
        self._header(size if size is not None else 2**40)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all numbers as little-endian bytes."""
        return self._hash.hexdigest()

    def add(self, block: Block, where: str) -> None:
        """Write a block. Raises UserError for another shape or type than before."""
        if (block.shape[1:], block.dtype) != (self.shape, self.dtype):
            raise UserError(
                f"{where} and later rows: found features {block.shape[1:]} {block.dtype}, expected {self.shape} "
                f"{self.dtype} as in earlier rows"
            )
        content = np.ascontiguousarray(block, block.dtype.newbyteorder("<")).data
        self._hash.update(content)
        self._file.write(content)
        self._rows += len(block)

    def end(self) -> None:
        """Write the header with the number of rows."""
        self._file.seek(0)
        self._header(self._rows)

    def _header(self, rows: int) -> None:
        # NumPy pads the header so that the first dimension can grow to 20 digits; the length does not change.
        header = {"descr": self.dtype.newbyteorder("<").str, "fortran_order": False, "shape": (rows, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, header)
