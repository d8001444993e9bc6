"""Reading the rows of a source in batches: captions, features or pictures, identities, and the origin of each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.imported.columns import Place, caption_vectors, identities, texts, vectors
from ncbench.data.imported.descriptors import Describe, descriptor
from ncbench.data.imported.folder import CAPTIONS
from ncbench.data.imported.image_rows import Rows
from ncbench.data.imported.origins import origin_of
from ncbench.data.imported.pictures import (
    BadPictureError,
    Picture,
    SkippedPictures,
    decode,
    is_pictures,
    picture_bytes,
    picture_names,
)
from ncbench.data.imported.request import Request
from ncbench.data.imported.tables import Table
from ncbench.errors import UserError


@dataclass
class RowReader:
    """Reads the rows of a source: which columns hold what, and how pictures become features."""

    request: Request
    images: str
    text_features: str
    root: Path | None
    describe: Describe | None
    skipped: SkippedPictures

    @staticmethod
    def of(request: Request, table: Table, root: Path | None, skipped: SkippedPictures) -> RowReader:
        """Return the reader of the columns of `table` that `request` describes. Raises UserError."""
        known = {name: table.schema.field(name).type for name in table.schema.names}
        pictured = [name for name, kind in known.items() if is_pictures(kind)]
        images = request.images or (pictured[0] if len(pictured) == 1 else "")
        describe = None if request.image_features else descriptor(request.features)
        if describe is not None and not images:
            found = ", ".join(f"{other} ({kind})" for other, kind in known.items())
            raise UserError(
                f"{request.source}: cannot tell which column holds the pictures; set `images` to one of {found}"
            )
        return RowReader(request, images, request.text_features, root, describe, skipped)

    def read(self, table: Table) -> Iterator[Rows]:
        """Yield all rows in batches. Raises UserError for invalid rows."""
        request, first = self.request, 0
        captions_name = request.captions or CAPTIONS
        names = [request.image_features, captions_name, self.text_features, self.images, request.ids]
        for name in filter(None, names):
            if name not in table.schema.names:
                found = ", ".join(f"{other} ({table.schema.field(other).type})" for other in table.schema.names)
                raise UserError(f"{request.source}: has no column {name!r}; found {found}")
        for batch in table.batches(list(dict.fromkeys(filter(None, names)))):
            place = partial(_place, table, first)
            first += batch.num_rows
            if not batch.num_rows:
                continue
            captions = texts(batch.column(captions_name), captions_name, place)
            bad = np.zeros(batch.num_rows, np.bool_)
            encoded = self._pictures(batch.column(self.images), place, bad) if self.images else None
            ids = identities(batch.column(request.ids), request.ids, place) if request.ids else []
            of_captions = None
            if self.text_features:
                counts = list(map(len, captions))
                joined = caption_vectors(batch.column(self.text_features), self.text_features, counts, place)
                of_captions = np.split(joined, np.cumsum(counts)[:-1])
            if self.describe is None:
                column = batch.column(request.image_features)
                features = vectors(column, request.image_features, place, request.regions)
            else:
                assert encoded is not None
                features = self._described(encoded, picture_names(batch.column(self.images)), place, bad)
            shown = batch.column(self.images).to_pylist() if self.images else []
            origins = [
                origin_of(place(row), ids[row] if ids else "", shown[row] if shown else None)
                for row in range(batch.num_rows)
            ]
            yield Rows(features, captions, of_captions, encoded, origins, bad)

    def _pictures(self, column: Any, place: Place, bad: NDArray[np.bool_]) -> list[bytes]:
        """Return the encoded pictures of a column; `bad` becomes true, and they are empty, where there is none."""
        if not self.skipped.wanted:
            try:
                return picture_bytes(column, self.images, self.root, place)
            except BadPictureError as error:
                self.skipped.add(error)
        found = []
        for row in range(len(column)):
            try:
                found += picture_bytes(column.slice(row, 1), self.images, self.root, partial(_always, place(row)))
            except BadPictureError as error:
                self.skipped.add(error)
                bad[row] = True
                found.append(b"")
        return found

    def _described(
        self, encoded: Sequence[bytes], names: Sequence[str], place: Place, bad: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return the features (n, R, D) of pictures; `bad` becomes true, and they are 0, where one is unreadable."""

        def readable() -> Iterator[Picture]:
            for row in np.flatnonzero(~bad).tolist():
                try:
                    picture = decode(encoded[row], f"{place(row)}{names[row] and f', {names[row]!r}'}")
                except BadPictureError as error:
                    self.skipped.add(error)
                    bad[row] = True
                else:
                    yield picture

        assert self.describe is not None
        pictures = readable()
        first = next(pictures, None)
        if first is None:
            return np.zeros((len(encoded), 1, 1), np.float32)
        described = self.describe(chain([first], pictures))
        features = np.zeros((len(encoded), *described.shape[1:]), np.float32)
        features[~bad] = described
        return features


def _place(table: Table, first: int, row: int) -> str:
    return table.place(first + row)


def _always(where: str, _: int) -> str:
    return where
