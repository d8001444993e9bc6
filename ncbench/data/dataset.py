"""Datasets: splits of region features and captions, with their true correspondence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ncbench.data.feature_sizes import bad_size, first_bad_row, rows_at_once
from ncbench.data.rows_file import RowsFile
from ncbench.data.splices import NO_DONOR, Splices
from ncbench.data.stamps import Stamp
from ncbench.data.vocabulary import UNKNOWN_ID, Vocabulary
from ncbench.errors import UserError
from ncbench.runtime.guard import refuse_if_guarded

DEFAULT_BACKBONE = "sgr"
IntVector = NDArray[np.int64]
FloatArray = NDArray[np.float32]


class ImageFeatures:
    """Region features of the images of a split, (images, R regions, D) float32, without a copy in memory.

    `chunks` are consecutive arrays (n, R, D), memory-mapped or not. `stride` keeps every stride-th row, for released
    files that repeat the row of an image once per caption. Rows of a mapped .npy file are read from the file; see
    `ncbench.data.rows_file`.
    """

    def __init__(self, chunks: Sequence[FloatArray], stride: int = 1) -> None:
        shapes = {chunk.shape[1:] for chunk in chunks}
        if len(shapes) != 1 or len(next(iter(shapes))) != 2:
            raise ValueError(f"expected chunks of one shape (R, D), found {sorted(shapes)}")
        self._chunks = list(chunks)
        self._stride = stride
        self._starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])
        self._order: IntVector | None = None
        self.n_regions, self.dim = (int(n) for n in next(iter(shapes)))
        self._files = [RowsFile.of(chunk) for chunk in chunks]
        self._sound = np.zeros(int(self._starts[-1]), np.bool_)  # rows that were read and checked

    @property
    def on_disk(self) -> bool:
        """Whether rows are read from files."""
        return any(file is not None for file in self._files)

    @property
    def nbytes(self) -> int:
        """Size of the stored features in bytes, in memory or mapped."""
        return sum(chunk.nbytes for chunk in self._chunks)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: rows of files are not copied, but read there too."""
        chunks = [None if file else chunk for chunk, file in zip(self._chunks, self._files, strict=True)]
        return {**vars(self), "_chunks": chunks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        chunks = zip(state["_chunks"], self._files, strict=True)
        self._chunks = [file.mapped() if file else chunk for chunk, file in chunks]

    def __len__(self) -> int:
        return -(-int(self._starts[-1]) // self._stride) if self._order is None else len(self._order)

    def reordered(self, order: IntVector) -> ImageFeatures:
        """Return the same features, not copied, in another order: image i is image `order[i]` of these."""
        found = object.__new__(type(self))  # to copy it would open its files again
        vars(found).update(vars(self))
        found._order = order if self._order is None else self._order[order]
        return found

    def take(self, images: IntVector, out: FloatArray | None = None) -> FloatArray:
        """Return a copy of the features of `images` (numbers in any order, with repeats): (n, R, D) float32.

        Writes to `out` if given. Raises UserError for features that are not finite, or absurd, the first time that
        they are read.
        """
        numbers = np.asarray(images) if self._order is None else self._order[images]
        rows = numbers * self._stride
        if out is None:
            out = np.empty((len(rows), self.n_regions, self.dim), np.float32)
        if len(self._chunks) == 1:
            self._take(0, rows, out)
        else:
            owner = np.searchsorted(self._starts, rows, side="right") - 1
            for number in np.unique(owner):
                mine = np.flatnonzero(owner == number)
                part = np.empty((len(mine), self.n_regions, self.dim), np.float32)
                self._take(int(number), rows[mine] - self._starts[number], part)
                out[mine] = part
        self._check(rows, out)
        return out

    def _check(self, rows: IntVector, read: FloatArray) -> None:
        """Raise UserError if a row that is read for the first time cannot be learned from."""
        new = np.flatnonzero(~self._sound[rows])
        at_once = rows_at_once(read)
        for part in (new[start : start + at_once] for start in range(0, len(new), at_once)):
            # Mostly all are new: a slice is not copied.
            whole = part[-1] - part[0] + 1 == len(part)
            if found := first_bad_row(read[part[0] : part[-1] + 1] if whole else read[part]):
                row = int(rows[part[found[0]]])
                number = int(np.searchsorted(self._starts, row, side="right")) - 1
                file, inside = self._files[number], row - int(self._starts[number])
                place = "features" if file is None else str(file.path)
                image = f" (image {row // self._stride})" if self._stride > 1 else ""
                raise UserError(
                    f"{place}, row {inside}{image}: {bad_size(found[1])}; compute or download the features again"
                )
        self._sound[rows] = True

    def _take(self, number: int, rows: IntVector, out: FloatArray) -> None:
        file = self._files[number]
        if file is not None:
            file.read(rows, out)
        else:
            out[...] = self._chunks[number][rows]


class Captions:
    """Tokenised captions of a split. Caption c is `tokens[offsets[c]:offsets[c + 1]]`, with start and end tokens.

    `vector_dim` is 0, or the dimension T of captions that are vectors; see `CaptionVectors`.
    """

    vector_dim = 0

    def __init__(self, texts: Sequence[str], token_lists: Sequence[Sequence[int]]) -> None:
        lengths = np.array([len(tokens) for tokens in token_lists], dtype=np.int64)
        joined = np.fromiter((t for tokens in token_lists for t in tokens), np.int64, int(lengths.sum()))
        self._set(texts, joined, lengths)

    @classmethod
    def of_arrays(cls, texts: Sequence[str], tokens: IntVector, lengths: IntVector) -> Captions:
        """Return captions from their concatenated word ids `tokens` and their `lengths` (captions,)."""
        captions = cls.__new__(cls)
        captions._set(texts, tokens, lengths)
        return captions

    def _set(self, texts: Sequence[str], tokens: IntVector, lengths: IntVector) -> None:
        if len(texts) != len(lengths):
            raise ValueError(f"found {len(texts)} texts but {len(lengths)} token lists")
        if len(tokens) != lengths.sum():
            raise ValueError(f"found {len(tokens)} tokens, but the lengths sum to {lengths.sum()}")
        self.texts = list(texts)
        self.lengths = lengths
        self._offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self.lengths)

    def padded(self, captions: IntVector) -> tuple[IntVector | FloatArray, IntVector]:
        """Return the word ids of `captions`, (n, longest) int64, right-padded with 0, and their lengths (n,)."""
        lengths = self.lengths[captions]
        columns = np.arange(int(lengths.max(initial=0)))
        inside = columns < lengths[:, None]
        positions = np.where(inside, self._offsets[captions][:, None] + columns, 0)
        return np.where(inside, self._tokens[positions], 0), lengths

    def tokens(self, caption: int) -> IntVector:
        """Return the word ids of a caption, with start and end tokens, (length,) int64."""
        return self._tokens[self._offsets[caption] : self._offsets[caption + 1]]

    def reordered(self, order: IntVector) -> Captions:
        """Return a copy in another order, without texts: caption c is caption `order[c]` of these.

        The addresses of texts in memory would tell in which order they were read.
        """
        lengths = self.lengths[order]
        ends = np.cumsum(lengths)
        # Token t of the copy is as far behind the start of its caption as in the original.
        positions = np.arange(int(lengths.sum())) + np.repeat(self._offsets[order] - ends + lengths, lengths)
        return Captions.of_arrays([""] * len(order), self._tokens[positions], lengths)

    def spliced(self, splices: Splices, words: Sequence[str]) -> Captions:
        """Return a copy with words replaced; the texts of changed captions are made from `words`, indexed by id.

        Raises ValueError for splices that do not fit these captions.
        """
        splices.check(self.lengths)
        lengths, texts = self.lengths.copy(), list(self.texts)
        lengths[splices.captions] += splices.growth
        offsets = np.cumsum(lengths) - lengths
        # Tokens of captions that do not change; the others are overwritten.
        positions = np.arange(int(lengths.sum())) + np.repeat(self._offsets[:-1] - offsets, lengths)
        tokens = self._tokens[np.minimum(positions, len(self._tokens) - 1)]
        for caption, start, donor, donor_start, length, replaced in splices.table.tolist():
            if donor == NO_DONOR:
                inserted = np.full(length, UNKNOWN_ID)
            else:
                inserted = self.tokens(donor)[donor_start : donor_start + length]
            own = self.tokens(caption)
            changed = np.concatenate([own[:start], inserted, own[start + replaced :]])
            tokens[offsets[caption] : offsets[caption] + len(changed)] = changed
            texts[caption] = " ".join(words[word] for word in changed[1:-1])
        return Captions.of_arrays(texts, tokens, lengths)


class CaptionVectors(Captions):
    """Captions given as vectors of another model, (captions, T). Each counts as one token."""

    def __init__(self, texts: Sequence[str], vectors: FloatArray) -> None:
        if len(texts) != len(vectors):
            raise ValueError(f"found {len(texts)} texts but {len(vectors)} vectors")
        self.texts = list(texts)
        self.lengths = np.ones(len(texts), np.int64)
        self._vectors = ImageFeatures([vectors[:, None]])
        self.vector_dim = self._vectors.dim

    def padded(self, captions: IntVector) -> tuple[IntVector | FloatArray, IntVector]:
        """Return the vectors of `captions`, (n, T) float32, and their lengths (n,), all 1."""
        return self._vectors.take(captions)[:, 0], self.lengths[captions]

    def reordered(self, order: IntVector) -> Captions:
        """Return a copy in memory in another order, without texts; see `Captions.reordered`."""
        return CaptionVectors([""] * len(order), self._vectors.take(order)[:, 0])

    def tokens(self, caption: int) -> IntVector:
        """Raise ValueError: vectors have no words."""
        raise ValueError("captions that are vectors have no words")

    def spliced(self, splices: Splices, words: Sequence[str]) -> Captions:
        """Raise ValueError: vectors have no words."""
        raise ValueError("captions that are vectors have no words")


@dataclass(frozen=True)
class Split:
    """A split (`train`, `dev` or `test`): images, captions, and the true image of each caption."""

    images: ImageFeatures
    captions: Captions
    true: IntVector  # (captions,) image numbers


class Semantics(Protocol):
    """Closeness in meaning of captions and images, for evaluation. Methods have no access to it."""

    def closeness(self, split: str, captions: IntVector, images: IntVector) -> NDArray[np.float64]:
        """Return the closeness in [0, 1] of caption captions[i] and image images[i], (n,) float64."""
        ...


class Pictures(Protocol):
    """The pictures of a dataset, for display."""

    def picture(self, split: str, image: int) -> NDArray[np.uint8]:
        """Return an image by number, (height, width, 3) uint8 RGB. Raises UserError if it cannot be read."""
        ...


@dataclass(frozen=True)
class Origin:
    """Where an image comes from: an id, a row (or line) of a file, and a picture file; "" and -1 if unknown."""

    id: str = ""
    file: str = ""
    row: int = -1
    picture: str = ""


class Origins(Protocol):
    """The origins of the images of a dataset, for display."""

    def origin(self, split: str, image: int) -> Origin:
        """Return the origin of an image by number. Raises UserError if it cannot be read."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A named, versioned set of splits with one vocabulary.

    `digest` identifies the content (hex SHA-256). `truth_known` is False if the training pairs are mismatched by nature
    and there is no ground truth. `folds` splits the test images for evaluation (COCO 1K: 5). `scale` holds the default
    sizes of backbones, `batch_size` that of a baseline epoch, `budget` the default budget of a run in baseline
    epochs, `backbone` the default backbone. Methods and backbones use their presets for the dataset named by `like`
    (default: this one). `files` must not change while the dataset is in use. `pictures` is None if there are only
    features, `origins` if unknown.
    """

    name: str
    version: str
    vocabulary: Vocabulary
    splits: Mapping[str, Split]
    digest: str
    scale: Mapping[str, int | float]
    batch_size: int
    budget: float = 8.0
    truth_known: bool = True
    folds: int = 1
    semantics: Semantics | None = field(default=None, repr=False)
    files: tuple[Stamp, ...] = field(default=(), repr=False)
    pictures: Pictures | None = field(default=None, repr=False)
    like: str = ""
    backbone: str = DEFAULT_BACKBONE
    origins: Origins | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        refuse_if_guarded("load a dataset")

    @property
    def image_dim(self) -> int:
        """D, the dimension of the region features."""
        return next(iter(self.splits.values())).images.dim

    @property
    def n_regions(self) -> int:
        """R, the regions per image."""
        return next(iter(self.splits.values())).images.n_regions

    @property
    def vector_dim(self) -> int:
        """T, the dimension of captions that are vectors; 0 if they are words."""
        return next(iter(self.splits.values())).captions.vector_dim

    @property
    def presets(self) -> str:
        """The name of the dataset whose presets methods and backbones use."""
        return self.like or self.name


class DatasetSource(Protocol):
    """The object behind an `ncbench.datasets` entry point: describes a dataset, and loads it on request."""

    @property
    def name(self) -> str:
        """The name for `--dataset`."""
        ...

    @property
    def summary(self) -> str:
        """A description in one line."""
        ...

    @property
    def needs_root(self) -> bool:
        """Whether the user must name the folder of its files."""
        ...

    def load(self, root: Path | None) -> Dataset:
        """Return the dataset, read from `root` if `needs_root`. Raises UserError for missing or malformed files."""
        ...


@runtime_checkable
class SplitSource(DatasetSource, Protocol):
    """A source that can load a single split, for evaluation without the others."""

    def load_split(self, root: Path | None, split: str) -> Dataset:
        """Return the dataset with this split only; its digest differs from that of the whole. Raises as `load`."""
        ...
