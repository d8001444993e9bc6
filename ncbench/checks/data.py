"""Checks of a dataset: it can be used for training and testing, and loads identically every time."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ncbench.backbones.base import Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.checks.method.reach import reachable
from ncbench.checks.verdicts import Check, Failed, Skipped, Verdict, judge
from ncbench.data.dataset import Dataset, DatasetSource, Split
from ncbench.data.feature_sizes import check_sizes
from ncbench.data.stamps import check_unchanged
from ncbench.data.training_view import TrainingView
from ncbench.data.unknown_words import check_words, unknown_share
from ncbench.errors import UserError, error_with_location
from ncbench.method import losses
from ncbench.plugins.discovery import NAME

LOG = logging.getLogger(__name__)
SPLITS = ("train", "dev", "test")
SAMPLE_SIZE = 512  # images per split whose features are checked
CHUNK_SIZE = 10_000  # captions per batch of token checks
MIN_IMAGES = 11  # in dev and test; with ten, R@10 is always 100
MAX_REPEATED_SHARE = 0.1  # of neighbours with equal features
UPDATES = 3
EMBED = 32  # size of the network that is trained

T = TypeVar("T")


@dataclass
class DatasetUnderTest:
    """The source of a dataset, and its data root if it needs one."""

    source: DatasetSource
    root: Path | None

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset, loaded once. Passes on exceptions of the source."""
        return self.source.load(self.root)

    def check_files(self) -> None:
        """Raise UserError if files are missing or malformed; other problems are left to the checks."""
        try:
            _ = self.dataset
        except UserError:
            raise
        except Exception as error:
            LOG.info("%s cannot be loaded: %s", self.source.name, error_with_location(error))

    def per_split(self, examine: Callable[[str, Split], T]) -> list[T]:
        """Return `examine(name, split)` for each split."""
        return [examine(name, self.dataset.splits[name]) for name in SPLITS]


def sample_features(split: Split) -> NDArray[np.float32]:
    """Return the features of up to SAMPLE_SIZE evenly spaced images of a split, (n, R, D)."""
    numbers = np.unique(np.linspace(0, len(split.images) - 1, SAMPLE_SIZE).astype(np.int64))
    return split.images.take(numbers)


def _named(found: DatasetUnderTest) -> str:
    source = found.source
    if not NAME.fullmatch(source.name):
        raise Failed(f"{source.name!r} is not a valid name; use letters, digits, '.', '_' and '-'")
    if not (isinstance(source.summary, str) and source.summary.strip()) or "\n" in source.summary:
        raise Failed(f"summary must be one line of text, found {source.summary!r}")
    if source.needs_root and found.root is None:
        return "requires --data-root"
    if found.root is not None and not source.needs_root:
        return "does not need --data-root; it is ignored"
    return source.summary


def _loads(found: DatasetUnderTest) -> str:
    dataset = found.dataset
    if not isinstance(dataset, Dataset):
        raise Failed(f"load() must return an ncbench.Dataset, found {type(dataset).__name__}")
    if dataset.name != found.source.name:
        raise Failed(f"the source is named {found.source.name!r}, but it loads a dataset named {dataset.name!r}")
    if not (dataset.version and len(dataset.digest) >= 12):
        raise Failed(f"version and digest must identify the content, found {dataset.version!r} and {dataset.digest!r}")
    missing = [name for name in SPLITS if name not in dataset.splits]
    if missing:
        raise Failed(f"missing splits: {', '.join(missing)}")
    sizes = [f"{name} {len(dataset.splits[name].images):,}" for name in SPLITS]
    return f"images: {', '.join(sizes)}; {len(dataset.vocabulary):,} words"


def _pairs(found: DatasetUnderTest) -> str:
    def examine(name: str, split: Split) -> str:
        images, captions, true = len(split.images), len(split.captions), split.true
        if not (images and captions):
            raise Failed(f"{name} has {images} images and {captions} captions")
        if true.shape != (captions,) or true.dtype != np.int64:
            raise Failed(f"true of {name} must be int64 of shape ({captions},), found {true.dtype} {true.shape}")
        if true.min() < 0 or true.max() >= images:
            raise Failed(f"true of {name} must be in 0..{images - 1}, found {true.min()} to {true.max()}")
        return f"{captions / images:.1f}"

    return f"captions per image: {', '.join(found.per_split(examine))}"


def _captions(found: DatasetUnderTest) -> str:
    if found.dataset.vector_dim:
        return _vectors(found)
    words = len(found.dataset.vocabulary)

    def examine(name: str, split: Split) -> int:
        captions = split.captions
        if captions.lengths.min() < 1:
            raise Failed(f"caption {int(captions.lengths.argmin())} of {name} has no tokens")
        if len(captions.texts) != len(captions):
            raise Failed(f"{name} has {len(captions.texts)} texts for {len(captions)} captions")
        for chosen in np.array_split(np.arange(len(captions)), 1 + len(captions) // CHUNK_SIZE):
            tokens, _ = captions.padded(chosen)
            unknown = tokens[(tokens < 0) | (tokens >= words)]
            if len(unknown):
                raise Failed(f"{name} has token {unknown[0]}; tokens of the vocabulary are 0 to {words - 1}")
        return int(captions.lengths.max())

    longest = max(found.per_split(examine))
    _as_verdict(check_words, found.dataset)
    shares = [f"{share:.0%}" for share in found.per_split(lambda _, split: unknown_share(split.captions))]
    return f"up to {longest} tokens, all in the vocabulary; unknown words: {', '.join(shares)}"


def _vectors(found: DatasetUnderTest) -> str:
    """Check captions that are vectors: as many as texts, finite, of one dimension, and not all alike."""
    dims = {}
    remedy = "give every split one finite vector per caption, all of the dimension of train"
    for name in SPLITS:
        captions = found.dataset.splits[name].captions
        dims[name] = captions.vector_dim
        if len(captions.texts) != len(captions):
            raise Failed(f"{name} has {len(captions.texts)} texts for {len(captions)} captions", remedy)
        sample = np.unique(np.linspace(0, len(captions) - 1, SAMPLE_SIZE).astype(np.int64))
        try:
            vectors, _ = captions.padded(sample)
        except UserError as error:  # not finite, or absurd
            raise Failed(f"caption vectors of {name}: {error}", remedy) from error
        if len(vectors) > 1 and (vectors == vectors[:1]).all():
            raise Failed(f"all captions of {name} have the same vector", remedy)
    if len(set(dims.values())) > 1:
        said = ", ".join(f"{name} {dim}" for name, dim in dims.items())
        raise Failed(f"splits differ in the dimension of caption vectors: {said} (0: words)", remedy)
    return f"vectors of {dims['train']} numbers, all finite (checked up to {SAMPLE_SIZE} per split)"


def _features(found: DatasetUnderTest) -> str:
    shapes = set()
    for name in SPLITS:
        try:
            features = sample_features(found.dataset.splits[name])
        except UserError as error:  # not finite, or absurd
            raise Failed(f"{name}: {error}") from error
        shapes.add(features.shape[1:])
        if len(features) > 1 and (features == features[:1]).all():
            raise Failed(f"all images of {name} have the same features")
        if len(repeats := _repeats(found.dataset.splits[name])) > MAX_REPEATED_SHARE * SAMPLE_SIZE:
            raise Failed(f"images {repeats[0]} and before of {name} have equal features: rows repeat images")
    _as_verdict(check_sizes, found.dataset)
    if len(shapes) > 1:
        raise Failed(f"splits differ in (regions, dimensions): {', '.join(map(str, sorted(shapes)))}")
    ((regions, dim),) = shapes
    words = "1 region" if regions == 1 else f"{regions} regions"
    return f"{words} of {dim} numbers, all finite (checked up to {SAMPLE_SIZE} images per split)"


def _repeats(split: Split) -> NDArray[np.int64]:
    """Return which of the first SAMPLE_SIZE images have the features of the image before."""
    first = split.images.take(np.arange(min(len(split.images), SAMPLE_SIZE)))
    return np.flatnonzero((first[1:] == first[:-1]).all((1, 2))) + 1


def _as_verdict(check: Callable[[Dataset], None], dataset: Dataset) -> None:
    try:
        check(dataset)
    except UserError as error:
        raise Failed(str(error)) from error


def _same_again(found: DatasetUnderTest) -> str:
    again = found.source.load(found.root)
    if again.digest != found.dataset.digest:
        raise Failed(f"the second load has digest {again.digest[:12]}, the first {found.dataset.digest[:12]}")
    for name in SPLITS:
        before, after = found.dataset.splits[name], again.splits[name]
        equal = (
            before.captions.texts == after.captions.texts
            and np.array_equal(before.true, after.true)
            and np.array_equal(sample_features(before), sample_features(after))
        )
        if not equal:
            raise Failed(f"the second load has a different {name} split, but the same digest")
    check_unchanged(found.dataset.files)
    return f"two loads have the same content and digest {again.digest[:12]}"


def _apart(found: DatasetUnderTest) -> str:
    rows = {name: {row.tobytes() for row in sample_features(found.dataset.splits[name])} for name in SPLITS}
    for one, other in combinations(SPLITS, 2):
        both = len(rows[one] & rows[other])
        if both:
            raise Failed(f"{both} of the checked images are in both {one} and {other} (equal features)")
    hidden = {name: found.dataset.splits[name].images for name in ("dev", "test")}
    for path, item in reachable({"images": found.dataset.splits["train"].images}):
        for name, images in hidden.items():
            if item is images or _overlap(item, images._chunks):
                raise Failed(f"features of {name} can be reached from train features: {path}")
    return "no checked image is in two splits, and dev and test cannot be reached from train"


def _overlap(item: object, chunks: Sequence[NDArray[np.float32]]) -> bool:
    return isinstance(item, np.ndarray) and any(np.may_share_memory(item, chunk) for chunk in chunks)


def _queries(found: DatasetUnderTest) -> str:
    for name in ("dev", "test"):
        split = found.dataset.splits[name]
        uncaptioned = np.setdiff1d(np.arange(len(split.images)), split.true)
        if len(uncaptioned):
            raise Failed(f"{len(uncaptioned)} images of {name} have no caption, for example image {uncaptioned[0]}")
        if len(split.images) < MIN_IMAGES:
            raise Failed(f"{name} has {len(split.images)} images; R@10 needs at least {MIN_IMAGES}")
    folds, test = found.dataset.folds, found.dataset.splits["test"]
    if len(test.images) % folds:
        raise Failed(f"{len(test.images)} test images cannot be divided into {folds} folds")
    return "all images of dev and test have captions" + (f"; test has {folds} folds" if folds > 1 else "")


def _closeness(found: DatasetUnderTest) -> str:
    semantics = found.dataset.semantics
    if semantics is None:
        raise Skipped("the dataset has no semantics")
    for name in ("train", "test"):
        split = found.dataset.splits[name]
        captions = np.arange(min(len(split.captions), SAMPLE_SIZE))
        own = semantics.closeness(name, captions, split.true[captions])
        other = semantics.closeness(name, captions, (split.true[captions] + 1) % len(split.images))
        for values in (own, other):
            if values.shape != captions.shape or not ((values >= 0) & (values <= 1)).all():
                raise Failed(
                    f"closeness must have shape {captions.shape} and values in [0, 1], found {values.shape}, "
                    f"{values.min()} to {values.max()}"
                )
        if own.mean() <= other.mean():
            raise Failed(
                f"captions of {name} are not closer to their own images ({own.mean():.2f}) than to others "
                f"({other.mean():.2f})"
            )
    return f"mean closeness of test captions to own images {own.mean():.2f}, to others {other.mean():.2f}"


def _trains(found: DatasetUnderTest) -> str:
    dataset = found.dataset
    torch.manual_seed(0)
    network = build_backbone("vse", Sizes.of(dataset, {"embed": EMBED, "word": EMBED}))
    adam = torch.optim.Adam(network.parameters(), 1e-3)
    train = dataset.splits["train"]
    view = TrainingView(train.images, train.captions, train.true, torch.device("cpu"))
    if dataset.batch_size < 2 or dataset.budget <= 0:
        raise Failed(
            f"batch_size must be at least 2 and budget positive, found {dataset.batch_size} and {dataset.budget}"
        )
    for update, batch in zip(range(UPDATES), view.batches(dataset.batch_size, np.random.default_rng(0)), strict=False):
        loss = losses.hinge_mean(network(batch.images, batch.tokens, batch.lengths), 0.2)
        if not math.isfinite(loss.item()):
            raise Failed(f"the loss is {loss.item()} at update {update + 1}")
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
    build_backbone("vse", Sizes.of(dataset, _scale(dataset)))
    return f"{UPDATES} updates of a small network on batches of {dataset.batch_size}"


def _scale(dataset: Dataset) -> dict[str, int]:
    known = {"embed", "similarity", "word", "dropout", "lse"}
    unknown = set(dataset.scale) - known
    if unknown:
        raise Failed(f"scale has unknown keys {', '.join(sorted(unknown))}; expected {', '.join(sorted(known))}")
    return cast("dict[str, int]", dict(dataset.scale))


AFTER_LOADING = ("loads",)
CHECKS: Sequence[Check[DatasetUnderTest]] = (
    Check(
        "named",
        "the source has a name, a one-line summary and needs_root",
        "set name, summary and needs_root of the source",
        _named,
    ),
    Check(
        "loads",
        "the dataset loads under its name, with a version, a digest and the splits train, dev and test",
        "return an ncbench.Dataset from load(root); raise UserError for missing or malformed files",
        _loads,
    ),
    Check(
        "pairs",
        "every caption belongs to an existing image",
        "make true an int64 vector with the image index of each caption of the split",
        _pairs,
        AFTER_LOADING,
    ),
    Check(
        "captions",
        "every caption has a text, and tokens from the vocabulary or a finite vector",
        "tokenise with dataset.vocabulary.encode, which adds <start> and <end> and handles unknown words",
        _captions,
        AFTER_LOADING,
    ),
    Check(
        "features",
        "features are finite, differ between images, and have the same shape in all splits",
        "provide float32 features of shape (images, R, D) with the same R and D for every split",
        _features,
        (*AFTER_LOADING, "pairs"),
    ),
    Check(
        "same-again",
        "loading it twice gives the same content and digest",
        "compute the digest from the content, and use a fixed seed for randomness",
        _same_again,
        (*AFTER_LOADING, "features"),
    ),
    Check(
        "apart",
        "no image is in two splits, and dev and test features cannot be reached from train features",
        "remove duplicate images; copy the rows of train, or store splits in separate files",
        _apart,
        (*AFTER_LOADING, "features"),
    ),
    Check(
        "queries",
        f"dev and test have at least {MIN_IMAGES} images, each with a caption, and test can be divided into its folds",
        "remove images without captions, and make dev and test large enough",
        _queries,
        (*AFTER_LOADING, "pairs"),
    ),
    Check(
        "closeness",
        "closeness, if provided, is in [0, 1] and higher for the own images of captions than for others",
        "return 1 for a caption that describes its image completely; or omit semantics",
        _closeness,
        (*AFTER_LOADING, "pairs"),
    ),
    Check(
        "trains",
        "a network can be built for the dataset and trained on it",
        "set batch_size, budget and scale, for example scale={'embed': 64, 'similarity': 16, 'word': 48}",
        _trains,
        (*AFTER_LOADING, "pairs", "captions", "features"),
    ),
)


def check_source(source: DatasetSource, root: Path | None) -> Generator[Verdict, None, None]:
    """Yield the verdicts on a dataset; `root` is the data root of datasets that need files.

    Raises UserError if files are missing or malformed, or if `root` is needed and None.
    """
    found = DatasetUnderTest(source, root)
    if source.needs_root:
        found.check_files()
    yield from judge(CHECKS, found)
