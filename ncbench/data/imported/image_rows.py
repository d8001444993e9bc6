"""Rows of a source that become images: rows of one id are joined, and images that repeat are noticed."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ncbench.data.data_warning import DataWarning
from ncbench.data.dataset import IntVector, Origin
from ncbench.data.imported.columns import Block, identities
from ncbench.data.imported.request import Request
from ncbench.data.imported.tables import Table
from ncbench.errors import UserError

MAX_REPEATED_SHARE, DOUBTFUL_SHARE = 0.1, 0.02
"""Shares of images with the features of an earlier image: above the first they are refused, above the second told.

Photographs hardly ever repeat. In a table with a row per caption, most rows do.
"""


@dataclass(frozen=True)
class Rows:
    """Rows of a source: features, the captions and the origin of each, and optional caption vectors and pictures.

    `bad` (rows,) are those whose picture was left out, which have no features; None: none of them.
    """

    features: Block
    captions: list[list[str]]
    vectors: list[Block] | None
    pictures: list[bytes] | None
    origins: list[Origin] = field(default_factory=list)
    bad: NDArray[np.bool_] | None = None

    def take(self, chosen: IntVector) -> Rows:
        """Return the rows at these indices."""
        return Rows(
            self.features[chosen],
            [self.captions[row] for row in chosen],
            None if self.vectors is None else [self.vectors[row] for row in chosen],
            None if self.pictures is None else [self.pictures[row] for row in chosen],
            [self.origins[row] for row in chosen] if self.origins else [],
            None if self.bad is None else self.bad[chosen],
        )

    def then(self, later: Rows) -> Rows:
        """Return these rows, followed by those of `later`."""
        return Rows(
            np.concatenate([self.features, later.features]),
            self.captions + later.captions,
            None if self.vectors is None or later.vectors is None else self.vectors + later.vectors,
            None if self.pictures is None or later.pictures is None else self.pictures + later.pictures,
            self.origins + later.origins,
            None if self.bad is None or later.bad is None else np.concatenate([self.bad, later.bad]),
        )


def images_of(request: Request, tables: Mapping[str, Table]) -> dict[str, IntVector]:
    """Return, for each table, the number of the image that each row belongs to: by id, else each row is an image.

    Raises UserError for missing ids, and for rows of one id that do not follow each other.
    """
    if not request.ids:
        return {name: np.arange(table.n_rows) for name, table in tables.items()}
    seen: dict[str, str] = {}
    return {name: _numbered(request.ids, table, seen) for name, table in tables.items()}


def _numbered(column: str, table: Table, seen: dict[str, str]) -> IntVector:
    """Return the number of the image of each row of a table; `seen` holds the location of each id so far."""
    numbers, number, before = np.empty(table.n_rows, np.int64), -1, None
    if column not in table.schema.names:
        found = ", ".join(f"{other} ({table.schema.field(other).type})" for other in table.schema.names)
        raise UserError(f"{table.place(0)}: has no column {column!r}; found {found}")
    row = 0
    for batch in table.batches([column]):
        first = row

        def place(inside: int, first: int = first) -> str:
            return table.place(first + inside)

        for name in identities(batch.column(column), column, place):
            if name != before or row == 0:
                here = table.place(row)
                if seen.setdefault(name, here) != here:
                    raise UserError(
                        f"{here}: id {name!r} is also used in {seen[name]}; rows of one image must be in one split and "
                        "follow each other. Sort them, or remove one"
                    )
                number, before = number + 1, name
            numbers[row] = number
            row += 1
    return numbers


def joined(batches: Iterator[Rows], images: IntVector, table: Table) -> Iterator[Rows]:
    """Yield the rows of a table with those of one image joined: its captions one after the other.

    Raises UserError if rows of one image have different features.
    """
    held, first = None, 0
    for rows in batches:
        stop = first + len(rows.captions)
        numbers = images[first:stop]
        if held is not None and _kind(held) != _kind(rows):
            yield held  # the writer refuses what follows, and tells where
        elif held is not None:
            rows, numbers, first = held.then(rows), np.concatenate([[images[first - 1]], numbers]), first - 1
        one_each = _join(rows, numbers, table, first)
        last = len(one_each.captions) - 1
        if last:
            yield one_each.take(np.arange(last))
        held, first = one_each.take(np.array([last])), stop
    if held is not None:
        yield held


def _kind(rows: Rows) -> tuple[object, ...]:
    return (*rows.features.shape[1:], rows.features.dtype)


def _join(rows: Rows, numbers: IntVector, table: Table, first: int) -> Rows:
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
    if len(starts) == len(numbers):
        return rows
    of = starts[np.cumsum(np.isin(np.arange(len(numbers)), starts)) - 1]
    differs = (rows.features != rows.features[of]).reshape(len(numbers), -1).any(1)
    if differs.any():
        row = int(np.argmax(differs))
        raise UserError(
            f"{table.place(first + row)}: has the id of the row before, but other features; "
            "rows of one id must be the same image"
        )
    parts = list(zip(starts, [*starts[1:], len(numbers)], strict=True))
    return Rows(
        rows.features[starts],
        [list(chain.from_iterable(rows.captions[start:stop])) for start, stop in parts],
        None if rows.vectors is None else [np.concatenate(rows.vectors[start:stop]) for start, stop in parts],
        None if rows.pictures is None else [rows.pictures[start] for start in starts],
        [rows.origins[start] for start in starts] if rows.origins else [],
        None if rows.bad is None else rows.bad[starts],
    )


@dataclass
class Repeats:
    """Counts images with the features of an earlier image, in their own split and in others."""

    request: Request
    _split_of: dict[bytes, str] = field(default_factory=dict)  # by hash of the features: the split of the first
    _images: Counter[str] = field(default_factory=Counter)
    _within: Counter[str] = field(default_factory=Counter)
    _between: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, split: str, rows: Rows) -> None:
        """Count images of a split."""
        self._images[split] += len(rows.captions)
        for features in rows.features:
            key = hashlib.blake2b(np.ascontiguousarray(features).data, digest_size=16).digest()
            first = self._split_of.get(key)
            if first is None:
                self._split_of[key] = split
            elif first == split:
                self._within[split] += 1
            else:
                self._between[split, first] += 1

    def tell(self) -> None:
        """Raise UserError if many images repeat; warn (DataWarning) if some do."""
        for split, count in self._within.items():
            share = count / self._images[split]
            told = (
                f"{self.request.source}: {count:,} of {self._images[split]:,} images of {split} repeat an earlier one"
            )
            if share > MAX_REPEATED_SHARE:
                raise UserError(
                    f"{told} (equal features), so the right image ties with its copies; if rows are captions, name the "
                    "column of the image's id (ids=COL), which joins them, or write one row per image with a list of "
                    "captions"
                )
            if share > DOUBTFUL_SHARE:
                warnings.warn(f"{told} (equal features); they tie in retrieval", DataWarning, stacklevel=2)
        for (split, other), count in self._between.items():
            if count > DOUBTFUL_SHARE * self._images[split]:
                warnings.warn(
                    f"{self.request.source}: {count:,} of {self._images[split]:,} images of {split} are also in "
                    f"{other} (equal features); remove them from one",
                    DataWarning,
                    stacklevel=2,
                )
