"""Converting a source into the local store. The source is read once, in batches, and never held in memory.

A folder of the store contains `manifest.json`, `vocabulary.json`, and per split

* `features.npy`: (images, R, D), float32, or float16 if the source has it;
* `captions.jsonl`: one text per line; `true.npy`: the image that each caption describes;
* `tokens.npy` and `lengths.npy`: the concatenated word ids of all captions; or `vectors.npy`: (captions, T);
* `pictures.bin` and `pictures.npy`: the encoded pictures, and the end of each;
* `origins.jsonl`: where each image comes from.

`skipped.txt` lists the pictures that were left out, if there are any.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.data_warning import DataWarning
from ncbench.data.dataset import Origin
from ncbench.data.imported.columns import Block, Place, caption_vectors, identities, texts, vectors
from ncbench.data.imported.descriptors import Describe, descriptor
from ncbench.data.imported.folder import CAPTIONS
from ncbench.data.imported.image_rows import Repeats, Rows, images_of, joined
from ncbench.data.imported.layout import MANIFEST_FILE, SKIPPED_FILE, STORE_FORMAT, VOCABULARY_FILE
from ncbench.data.imported.origins import ORIGINS_FILE, lines_of, origin_of
from ncbench.data.imported.pictures import (
    BadPictureError,
    Picture,
    SkippedPictures,
    decode,
    is_pictures,
    picture_bytes,
    picture_names,
    write_skipped,
)
from ncbench.data.imported.reading import read_texts
from ncbench.data.imported.request import Request
from ncbench.data.imported.split_names import REST, SPLITS, split_of, words_of_split
from ncbench.data.imported.tables import Table
from ncbench.data.model_tokeniser import ModelTokeniser
from ncbench.data.token_cache import token_ids
from ncbench.data.tokenise import Tokeniser
from ncbench.data.vocabulary import Vocabulary
from ncbench.errors import UserError
from ncbench.runtime.files import write_json
from ncbench.runtime.seeds import derive_rng

DRAWN_DIVISOR, MAX_DRAWN_ROWS = 10, 1_000
"""A split that the source lacks is drawn from train: a tenth of its rows, 1,000 at most."""

IntVector = NDArray[np.int64]


def convert(request: Request, tables: Mapping[str, Table], root: Path | None, folder: Path) -> None:
    """Convert the dataset that `request` describes, from the `tables` of its source, and write it to `folder`.

    Paths of pictures are relative to `root`. Raises UserError for missing columns and invalid rows.
    """
    skipped = SkippedPictures(request.skip_bad)
    columns = _Columns.of(request, next(iter(tables.values())), root, skipped)
    used = used_splits(request, [*tables])
    images = images_of(request, {name: tables[name] for name in used})
    plan = plan_splits(request, used, {name: int(numbers.max(initial=-1)) + 1 for name, numbers in images.items()})
    repeats = Repeats(request)
    counts = {
        split: sum(int((owner == number).sum()) for owner in plan.values()) for number, split in enumerate(SPLITS)
    }
    with ExitStack() as stack:
        writers = {split: stack.enter_context(SplitWriter(folder / split, counts[split])) for split in SPLITS}
        for name, owner in plan.items():
            table, first = tables[name], 0
            read = columns.read(table)
            for rows in joined(read, images[name], table) if request.ids else read:
                stop = first + len(rows.captions)
                for number, split in enumerate(SPLITS):
                    chosen = owner[first:stop] == number
                    mine = rows.take(np.flatnonzero(chosen if rows.bad is None else chosen & ~rows.bad))
                    writers[split].add(mine, table.place(min(first, table.n_rows - 1)))
                    repeats.add(split, mine)
                first = stop
            if first != len(owner):
                raise UserError(f"{request.source}: found {first} images in {name!r}, expected {len(owner)}")
    for split, writer in writers.items():
        if not writer.n_images:
            raise UserError(f"{request.source}: no picture of {split} can be read ({skipped.lines[0]})")
    repeats.tell()
    if skipped.lines:
        write_skipped(folder / SKIPPED_FILE, skipped.lines)
    splits = {split: writer.facts for split, writer in writers.items()}
    if len({(*facts["shape"][1:], facts["dtype"], facts["vector"]) for facts in splits.values()}) > 1:
        found = ", ".join(f"{split} {facts['shape'][1:]} {facts['dtype']}" for split, facts in splits.items())
        raise UserError(f"{request.source}: features must have the same shape in all splits, found {found}")
    vocabulary, tokeniser = _tokenise(request, folder, columns.text_features != "")
    facts = [json.dumps(splits, sort_keys=True), vocabulary.digest, *(_token_fact(folder / split) for split in SPLITS)]
    facts += [tokeniser.digest] if tokeniser.digest else []
    manifest = {
        "format": STORE_FORMAT,
        "name": request.title,
        "source": request.source,
        "columns": {key: value for key, value in vars(request).items() if isinstance(value, str) and value},
        "drawn": [split for split in SPLITS if split not in used.values()],
        "splits": splits,
        "truth_known": request.truth_known,
        "like": request.like,
        "doubtful": tokeniser.doubtful,
        "tokenizer_digest": tokeniser.digest,
        "digest": hashlib.sha256("\n".join(facts).encode()).hexdigest(),
    }
    write_json(folder / MANIFEST_FILE, manifest)


def used_splits(request: Request, names: Sequence[str]) -> dict[str, str]:
    """Return, for each split of the source that is used, the split of SPLITS that it becomes, train first.

    Warns (DataWarning) about others. Raises UserError if none is train.
    """
    sources = {split: _source_split(request, names, split) for split in SPLITS}
    if sources["train"] is None:
        raise UserError(
            f"{request.source}: cannot tell the training split among {', '.join(sorted(names))}; "
            "set it under [splits] in a configuration file"
        )
    used = {source: split for split, source in sources.items() if source is not None}
    for name in sorted(set(names) - set(used)):
        if REST in words_of_split(name) and "train" not in request.splits:
            used[name] = "train"
        elif not request.splits:
            warnings.warn(
                f"{request.source}: the rows of {name!r} are not used, as the name tells no split; "
                "set [splits] in a configuration file if that is wrong",
                DataWarning,
                stacklevel=2,
            )
    return used


def plan_splits(request: Request, used: Mapping[str, str], images: Mapping[str, int]) -> dict[str, NDArray[np.int8]]:
    """Return, for each split of the source that is `used`, the index in SPLITS that each image goes to.

    `images` counts the images of each. Splits that the source lacks are drawn from train: a tenth of its images each,
    1,000 at most, with seed 0. Raises UserError for splits that are too small.
    """
    plan = {name: np.full(images[name], SPLITS.index(split), np.int8) for name, split in used.items()}
    train = next(iter(plan))
    n_rows = images[train]
    order, start = derive_rng(0, "imported", "splits").permutation(n_rows), 0
    for number, split in enumerate(SPLITS):
        if split not in used.values():
            size = min(MAX_DRAWN_ROWS, max(1, n_rows // DRAWN_DIVISOR))
            plan[train][order[start : start + size]] = number
            start += size
    for number, split in enumerate(SPLITS):
        size = sum(int((rows == number).sum()) for rows in plan.values())
        if size < (2 if split == "train" else 1):
            raise UserError(
                f"{request.source}: {size} rows are too few for {split} ({n_rows} rows in the source's training split)"
            )
    return plan


def _source_split(request: Request, names: Sequence[str], split: str) -> str | None:
    """Return the source's name of `split`, or None. Raises UserError if it is missing, or could be one of several."""
    stated = request.splits.get(split)
    if stated is not None:
        if stated not in names:
            raise UserError(
                f"{request.source}: there is no split {stated!r} for {split}; found {', '.join(sorted(names))}"
            )
        return stated
    if split == "train" and len(names) == 1:
        return names[0]
    free = set(names) - set(request.splits.values())
    found = sorted(name for name in free if split_of(name) == split and REST not in words_of_split(name))
    if len(found) > 1:
        raise UserError(
            f"{request.source}: {', '.join(found)} could all be {split}; set [splits] {split} in a configuration file"
        )
    return found[0] if found else None


@dataclass
class _Columns:
    """The columns to read, and how to read them."""

    request: Request
    images: str
    text_features: str
    root: Path | None
    describe: Describe | None
    skipped: SkippedPictures

    @staticmethod
    def of(request: Request, table: Table, root: Path | None, skipped: SkippedPictures) -> _Columns:
        """Return the columns of `table` that `request` describes. Raises UserError."""
        known = {name: table.schema.field(name).type for name in table.schema.names}
        pictured = [name for name, kind in known.items() if is_pictures(kind)]
        images = request.images or (pictured[0] if len(pictured) == 1 else "")
        describe = None if request.image_features else descriptor(request.features)
        if describe is not None and not images:
            found = ", ".join(f"{other} ({kind})" for other, kind in known.items())
            raise UserError(
                f"{request.source}: cannot tell which column holds the pictures; set `images` to one of {found}"
            )
        return _Columns(request, images, request.text_features, root, describe, skipped)

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


def _tokenise(request: Request, folder: Path, has_vectors: bool) -> tuple[Vocabulary, Tokeniser]:
    """Write vocabulary and word ids. Return the vocabulary, and the tokeniser of all captions."""
    if has_vectors:  # words are not needed
        vocabulary = Vocabulary.build([], 1)
        vocabulary.write(folder / VOCABULARY_FILE)
        return vocabulary, Tokeniser()
    model = ModelTokeniser(request.tokenizer) if request.tokenizer else None
    stated = Vocabulary.read(Path(request.vocabulary)) if request.vocabulary else None
    tokeniser = model or Tokeniser(stated.abbreviations if stated else ())
    vocabulary = stated or _build_vocabulary(folder, tokeniser, request.min_count)
    vocabulary.write(folder / VOCABULARY_FILE)
    tokeniser = model or Tokeniser(vocabulary.abbreviations)
    for split in SPLITS:
        tokens, lengths = token_ids(read_texts(folder / split), vocabulary, tokeniser)
        np.save(folder / split / "tokens.npy", tokens.astype("<i4"))
        np.save(folder / split / "lengths.npy", lengths.astype("<i4"))
    tokeniser.warn()
    return vocabulary, tokeniser


def _build_vocabulary(folder: Path, tokeniser: Callable[[str], Sequence[str]], threshold: int) -> Vocabulary:
    """Return the words that occur at least `threshold` times in train and dev, as in published vocabularies."""
    counts = Counter(
        word for split in ("train", "dev") for text in read_texts(folder / split) for word in tokeniser(text)
    )
    return Vocabulary.of_counts(counts, threshold)


def _token_fact(folder: Path) -> str:
    path = folder / "tokens.npy"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
