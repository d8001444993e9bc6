"""What a dataset is: splits of region features and captions, with their true correspondence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ncbench.data.rows_file import RowsFile
from ncbench.data.splices import Splices
from ncbench.data.stamps import Stamp
from ncbench.data.vocabulary import Vocabulary

IntVector = NDArray[np.int64]
FloatArray = NDArray[np.float32]


class ImageFeatures:
    """Region features of the images of a split, (images, R regions, D) float32, read in place.

    `chunks` are arrays of shape (n, R, D), memory-mapped or not, that follow one another; `stride` keeps every
    stride-th row (released files may repeat the row of an image once per caption). Rows of a mapped .npy file are read
    from the file: see `ncbench.data.rows_file`.
    """

    def __init__(self, chunks: Sequence[FloatArray], stride: int = 1) -> None:
        shapes = {chunk.shape[1:] for chunk in chunks}
        if len(shapes) != 1 or len(next(iter(shapes))) != 2:
            raise ValueError(f"chunks must share one (R, D), found {sorted(shapes)}")
        self._chunks = list(chunks)
        self._stride = stride
        self._starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])
        self.n_regions, self.dim = (int(n) for n in next(iter(shapes)))
        self._files = [RowsFile.of(chunk) for chunk in chunks]

    def reordered(self, order: IntVector) -> ImageFeatures:
        """Return the features of images `order`, (n,) image numbers, as images 0 to n - 1; no feature is copied."""
        return _Reordered(self, order)

    @property
    def on_disk(self) -> bool:
        """Whether rows are read from files."""
        return any(file is not None for file in self._files)

    def __len__(self) -> int:
        return -(-int(self._starts[-1]) // self._stride)

    def take(self, images: IntVector, out: FloatArray | None = None) -> FloatArray:
        """Return a copy of the features of `images` (image numbers, any order, repeats allowed): (n, R, D) float32.

        It is made in `out`, if that is given.
        """
        rows = np.asarray(images) * self._stride
        if out is None:
            out = np.empty((len(rows), self.n_regions, self.dim), np.float32)
        if len(self._chunks) == 1:
            self._take(0, rows, out)
            return out
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(owner):
            mine = np.flatnonzero(owner == number)
            part = np.empty((len(mine), self.n_regions, self.dim), np.float32)
            self._take(int(number), rows[mine] - self._starts[number], part)
            out[mine] = part
        return out

    def _take(self, number: int, rows: IntVector, out: FloatArray) -> None:
        file = self._files[number]
        if file is not None:
            file.read(rows, out)
        else:
            out[...] = self._chunks[number][rows]


class _Reordered(ImageFeatures):
    """Features of some images under other numbers."""

    def __init__(self, features: ImageFeatures, order: IntVector) -> None:
        self._features, self._order = features, order
        self.n_regions, self.dim = features.n_regions, features.dim

    @property
    def on_disk(self) -> bool:
        """Whether rows are read from files."""
        return self._features.on_disk

    def __len__(self) -> int:
        return len(self._order)

    def take(self, images: IntVector, out: FloatArray | None = None) -> FloatArray:
        """Return a copy of the features of `images`, as `ImageFeatures.take`."""
        return self._features.take(self._order[images], out)


class Captions:
    """Tokenised captions of a split; caption c is `tokens[offsets[c]:offsets[c + 1]]`, start and end marks included.

    `vector_dim` is 0, or the T of captions that come as vectors instead: see `CaptionVectors`.
    """

    vector_dim = 0

    def __init__(self, texts: Sequence[str], token_lists: Sequence[Sequence[int]]) -> None:
        lengths = np.array([len(tokens) for tokens in token_lists], dtype=np.int64)
        joined = np.fromiter((t for tokens in token_lists for t in tokens), np.int64, int(lengths.sum()))
        self._set(texts, joined, lengths)

    @classmethod
    def of_arrays(cls, texts: Sequence[str], tokens: IntVector, lengths: IntVector) -> Captions:
        """Return captions whose word ids follow one another in `tokens`, `lengths` (captions,) of them each."""
        captions = cls.__new__(cls)
        captions._set(texts, tokens, lengths)
        return captions

    def _set(self, texts: Sequence[str], tokens: IntVector, lengths: IntVector) -> None:
        if len(texts) != len(lengths):
            raise ValueError(f"{len(texts)} texts but {len(lengths)} token lists")
        if len(tokens) != lengths.sum():
            raise ValueError(f"{len(tokens)} tokens for lengths that sum to {lengths.sum()}")
        self.texts = list(texts)
        self.lengths = lengths
        self._offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self.lengths)

    def padded(self, captions: IntVector) -> tuple[IntVector | FloatArray, IntVector]:
        """Return the word ids of `captions`, (n, longest) int64 padded with 0 on the right, and their lengths (n,)."""
        lengths = self.lengths[captions]
        columns = np.arange(int(lengths.max(initial=0)))
        inside = columns < lengths[:, None]
        positions = np.where(inside, self._offsets[captions][:, None] + columns, 0)
        return np.where(inside, self._tokens[positions], 0), lengths

    def reordered(self, order: IntVector) -> Captions:
        """Return a copy of captions `order`, (n,) caption numbers, as captions 0 to n - 1."""
        starts, lengths = self._offsets[order], self.lengths[order]
        positions = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(int(lengths.sum()))
        return Captions.of_arrays([self.texts[caption] for caption in order], self._tokens[positions], lengths)

    def tokens(self, caption: int) -> IntVector:
        """Return the word ids of a caption, start and end marks included, (length,) int64."""
        return self._tokens[self._offsets[caption] : self._offsets[caption + 1]]

    def spliced(self, splices: Splices, words: Sequence[str]) -> Captions:
        """Return these captions with words replaced; the texts of those are the `words`, by id, that they then have.

        Raises ValueError for splices that do not fit.
        """
        splices.check(self.lengths)
        changed, texts = self._tokens.copy(), list(self.texts)
        for caption, start, donor, donor_start, length in splices.rows.tolist():
            into, out_of = self._offsets[caption], self._offsets[donor] + donor_start
            changed[into + start : into + start + length] = self._tokens[out_of : out_of + length]
            texts[caption] = " ".join(words[word] for word in changed[into + 1 : into + self.lengths[caption] - 1])
        return Captions.of_arrays(texts, changed, self.lengths)


class CaptionVectors(Captions):
    """Captions as vectors that another model made, (captions, T); each counts as one token."""

    def __init__(self, texts: Sequence[str], vectors: FloatArray) -> None:
        if len(texts) != len(vectors):
            raise ValueError(f"{len(texts)} texts but {len(vectors)} vectors")
        self.texts = list(texts)
        self.lengths = np.ones(len(texts), np.int64)
        self._vectors = ImageFeatures([vectors[:, None]])
        self.vector_dim = self._vectors.dim

    def padded(self, captions: IntVector) -> tuple[IntVector | FloatArray, IntVector]:
        """Return the vectors of `captions`, (n, T) float32, and their lengths (n,), which are 1."""
        return self._vectors.take(captions)[:, 0], self.lengths[captions]

    def reordered(self, order: IntVector) -> Captions:
        """Return a copy of captions `order`, as `Captions.reordered`."""
        return CaptionVectors([self.texts[caption] for caption in order], self._vectors.take(order)[:, 0])

    def tokens(self, caption: int) -> IntVector:
        """Vectors have no words. Raises ValueError."""
        raise ValueError("captions that are vectors have no words")

    def spliced(self, splices: Splices, words: Sequence[str]) -> Captions:
        """Vectors have no words. Raises ValueError."""
        raise ValueError("captions that are vectors have no words")


@dataclass(frozen=True)
class Split:
    """One of `train`, `dev`, `test`: images, captions, and per caption the image that it truly describes."""

    images: ImageFeatures
    captions: Captions
    true: IntVector  # (captions,) image numbers


class Semantics(Protocol):
    """How close captions and images of a split are in meaning; known to the harness, never to a method."""

    def closeness(self, split: str, captions: IntVector, images: IntVector) -> NDArray[np.float64]:
        """Return the closeness in [0, 1] of caption captions[i] and image images[i], (n,) float64."""
        ...


class Pictures(Protocol):
    """The images of a dataset as people see them."""

    def picture(self, split: str, image: int) -> NDArray[np.uint8]:
        """Return an image by number, (height, width, 3) uint8, RGB; raises UserError if it cannot be read."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A named, versioned set of splits with one vocabulary.

    `digest` identifies the content (hex SHA-256). `truth_known` is False where the training pairs are mismatched by
    nature and nobody knows which. `folds` splits the test images for evaluation (COCO 1K: 5). `scale` holds the
    sizes that backbones take on this dataset, `batch_size` the batch of the work unit, `budget` what a run may spend
    unless told otherwise, in baseline epochs. Methods and backbones have presets for it if they have some for the
    dataset that it is `like`: by default, itself. `files` are those that must not change while it is in use. `pictures`
    are there where the dataset has more of its images than features.
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

    @property
    def image_dim(self) -> int:
        """D of the region features."""
        return next(iter(self.splits.values())).images.dim

    @property
    def n_regions(self) -> int:
        """R, regions per image."""
        return next(iter(self.splits.values())).images.n_regions

    @property
    def vector_dim(self) -> int:
        """T of captions that are vectors; 0 where they are words."""
        return next(iter(self.splits.values())).captions.vector_dim

    @property
    def presets(self) -> str:
        """The dataset whose presets of methods and backbones hold here."""
        return self.like or self.name


class DatasetSource(Protocol):
    """What an `ncbench.datasets` entry point names: knows a dataset without loading it, and loads it."""

    @property
    def name(self) -> str:
        """What `--dataset` calls it."""
        ...

    @property
    def summary(self) -> str:
        """One line of what it is."""
        ...

    @property
    def needs_root(self) -> bool:
        """Whether its files lie below a folder that the user names."""
        ...

    def load(self, root: Path | None) -> Dataset:
        """Return the dataset, read below `root` if `needs_root`; raises UserError for what is missing or malformed."""
        ...


@runtime_checkable
class SplitSource(DatasetSource, Protocol):
    """A source that can read one split alone, for evaluation where the others are not at hand."""

    def load_split(self, root: Path | None, split: str) -> Dataset:
        """Return the dataset with this split only; its digest is not that of the whole. Raises as `load`."""
        ...
