"""All checks of a dataset: whether it can be trained and tested on, and comes out the same every time."""

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
from ncbench.data.stamps import check_unchanged
from ncbench.data.training_view import TrainingView
from ncbench.errors import UserError, told
from ncbench.method import losses
from ncbench.plugins.discovery import NAME

LOG = logging.getLogger(__name__)
SPLITS = ("train", "dev", "test")
SAMPLED = 512  # images of a split whose features are looked at
AT_ONCE = 10_000  # captions whose tokens are looked at
FEWEST = 11  # images of dev and of test: with ten, every image is among the ten best
UPDATES = 3
EMBED = 32  # of the small network that is trained on it

T = TypeVar("T")


@dataclass
class Examined:
    """A dataset under examination: its source, and the folder that a user named."""

    source: DatasetSource
    root: Path | None

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset, loaded once. Raises what the source raises."""
        return self.source.load(self.root)

    def check_files(self) -> None:
        """Raise UserError where files are missing or malformed; what else is wrong is for the checks to tell."""
        try:
            _ = self.dataset
        except UserError:
            raise
        except Exception as error:
            LOG.info("%s cannot be loaded: %s", self.source.name, told(error))

    def per_split(self, examine: Callable[[str, Split], T]) -> list[T]:
        """Return what `examine` returns for the name and the content of each split."""
        return [examine(name, self.dataset.splits[name]) for name in SPLITS]


def sampled(split: Split) -> NDArray[np.float32]:
    """Return the features of some images of a split, evenly spaced, (n, R, D)."""
    numbers = np.unique(np.linspace(0, len(split.images) - 1, SAMPLED).astype(np.int64))
    return split.images.take(numbers)


def _named(found: Examined) -> str:
    source = found.source
    if not NAME.fullmatch(source.name):
        raise Failed(f"{source.name!r} is no name; use letters, digits, '.', '_' and '-'")
    if not (isinstance(source.summary, str) and source.summary.strip()) or "\n" in source.summary:
        raise Failed(f"its summary must be one line of text, found {source.summary!r}")
    if source.needs_root and found.root is None:
        return "needs --data-root"
    if found.root is not None and not source.needs_root:
        return "needs no --data-root: the one given is not used"
    return source.summary


def _loads(found: Examined) -> str:
    dataset = found.dataset
    if not isinstance(dataset, Dataset):
        raise Failed(f"load() must return an ncbench.Dataset, found {type(dataset).__name__}")
    if dataset.name != found.source.name:
        raise Failed(f"the source is called {found.source.name!r}, what it loads {dataset.name!r}")
    if not (dataset.version and len(dataset.digest) >= 12):
        raise Failed(f"version and digest must say what it is, found {dataset.version!r} and {dataset.digest!r}")
    missing = [name for name in SPLITS if name not in dataset.splits]
    if missing:
        raise Failed(f"lacks the splits {', '.join(missing)}")
    sizes = [f"{name} {len(dataset.splits[name].images):,}" for name in SPLITS]
    return f"images: {', '.join(sizes)}; {len(dataset.vocabulary):,} words"


def _pairs(found: Examined) -> str:
    def examine(name: str, split: Split) -> str:
        images, captions, true = len(split.images), len(split.captions), split.true
        if not (images and captions):
            raise Failed(f"{name} has {images} images and {captions} captions")
        if true.shape != (captions,) or true.dtype != np.int64:
            raise Failed(f"true of {name} must be int64 with {captions} entries, found {true.dtype} {true.shape}")
        if true.min() < 0 or true.max() >= images:
            raise Failed(f"true of {name} must name images 0 to {images - 1}, found {true.min()} to {true.max()}")
        return f"{captions / images:.1f}"

    return f"captions per image: {', '.join(found.per_split(examine))}"


def _captions(found: Examined) -> str:
    words = len(found.dataset.vocabulary)

    def examine(name: str, split: Split) -> int:
        captions = split.captions
        if captions.lengths.min() < 1:
            raise Failed(f"caption {int(captions.lengths.argmin())} of {name} has no tokens")
        if len(captions.texts) != len(captions):
            raise Failed(f"{name} has {len(captions.texts)} texts for {len(captions)} captions")
        for chosen in np.array_split(np.arange(len(captions)), 1 + len(captions) // AT_ONCE):
            tokens, _ = captions.padded(chosen)
            strange = tokens[(tokens < 0) | (tokens >= words)]
            if len(strange):
                raise Failed(f"{name} has token {strange[0]}; the vocabulary has 0 to {words - 1}")
        return int(captions.lengths.max())

    return f"up to {max(found.per_split(examine))} tokens, all in the vocabulary"


def _features(found: Examined) -> str:
    shapes = set()
    for name in SPLITS:
        features = sampled(found.dataset.splits[name])
        shapes.add(features.shape[1:])
        if not np.isfinite(features).all():
            raise Failed(f"features of {name} hold NaN or infinity")
        if len(features) > 1 and (features == features[:1]).all():
            raise Failed(f"all images of {name} have the same features")
    if len(shapes) > 1:
        raise Failed(f"splits differ in (regions, dimensions): {', '.join(map(str, sorted(shapes)))}")
    ((regions, dim),) = shapes
    words = "1 region" if regions == 1 else f"{regions} regions"
    return f"{words} of {dim} numbers, finite (up to {SAMPLED} images looked at)"


def _same_again(found: Examined) -> str:
    again = found.source.load(found.root)
    if again.digest != found.dataset.digest:
        raise Failed(f"loaded again, its digest is {again.digest[:12]}, before {found.dataset.digest[:12]}")
    for name in SPLITS:
        before, after = found.dataset.splits[name], again.splits[name]
        alike = (
            before.captions.texts == after.captions.texts
            and np.array_equal(before.true, after.true)
            and np.array_equal(sampled(before), sampled(after))
        )
        if not alike:
            raise Failed(f"loaded again, {name} is another, and the digest does not say so")
    check_unchanged(found.dataset.files)
    return f"loaded twice, the same content and the digest {again.digest[:12]}"


def _apart(found: Examined) -> str:
    rows = {name: {row.tobytes() for row in sampled(found.dataset.splits[name])} for name in SPLITS}
    for one, other in combinations(SPLITS, 2):
        both = len(rows[one] & rows[other])
        if both:
            raise Failed(f"{both} of the images looked at are in {one} and in {other}, with equal features")
    hidden = {name: found.dataset.splits[name].images for name in ("dev", "test")}
    for path, thing in reachable({"images": found.dataset.splits["train"].images}):
        for name, images in hidden.items():
            if thing is images or _overlap(thing, images._chunks):
                raise Failed(f"features of {name} can be reached from those of train: {path}")
    return "no image is in two splits (of those looked at), and train does not lead to dev or test"


def _overlap(thing: object, chunks: Sequence[NDArray[np.float32]]) -> bool:
    return isinstance(thing, np.ndarray) and any(np.may_share_memory(thing, chunk) for chunk in chunks)


def _queries(found: Examined) -> str:
    for name in ("dev", "test"):
        split = found.dataset.splits[name]
        bare = np.setdiff1d(np.arange(len(split.images)), split.true)
        if len(bare):
            raise Failed(f"image {bare[0]} of {name} has no caption, and so do {len(bare) - 1} others")
        if len(split.images) < FEWEST:
            raise Failed(f"{name} has {len(split.images)} images; for R@10 to say anything it takes {FEWEST}")
    folds, test = found.dataset.folds, found.dataset.splits["test"]
    if len(test.images) % folds:
        raise Failed(f"{len(test.images)} test images do not make {folds} folds")
    return "dev and test have a caption for every image" + (f", and {folds} folds" if folds > 1 else "")


def _closeness(found: Examined) -> str:
    semantics = found.dataset.semantics
    if semantics is None:
        raise Skipped("it does not know how close captions and images are in meaning (semantics)")
    split = found.dataset.splits["train"]
    captions = np.arange(min(len(split.captions), SAMPLED))
    own = semantics.closeness("train", captions, split.true[captions])
    other = semantics.closeness("train", captions, (split.true[captions] + 1) % len(split.images))
    for values in (own, other):
        if values.shape != captions.shape or not ((values >= 0) & (values <= 1)).all():
            raise Failed(
                f"closeness must be {captions.shape} in [0, 1], found {values.shape} {values.min()}..{values.max()}"
            )
    if own.mean() <= other.mean():
        raise Failed(
            f"captions are no closer to their own images ({own.mean():.2f}) than to others ({other.mean():.2f})"
        )
    return f"captions are closer to their own image ({own.mean():.2f}) than to another ({other.mean():.2f})"


def _trains(found: Examined) -> str:
    dataset = found.dataset
    torch.manual_seed(0)
    sizes = Sizes(dataset.image_dim, dataset.n_regions, len(dataset.vocabulary), embed=EMBED, word=EMBED)
    network = build_backbone("vse", sizes)
    adam = torch.optim.Adam(network.parameters(), 1e-3)
    train = dataset.splits["train"]
    view = TrainingView(train.images, train.captions, train.true, torch.device("cpu"))
    if dataset.batch_size < 2 or dataset.budget <= 0:
        raise Failed(f"batch_size and budget must be usable, found {dataset.batch_size} and {dataset.budget}")
    for update, batch in zip(range(UPDATES), view.batches(dataset.batch_size, np.random.default_rng(0)), strict=False):
        loss = losses.hinge_mean(network(batch.images, batch.tokens, batch.lengths), 0.2)
        if not math.isfinite(loss.item()):
            raise Failed(f"the loss is {loss.item()} at update {update + 1}")
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
    build_backbone("vse", Sizes(dataset.image_dim, dataset.n_regions, len(dataset.vocabulary), **_scale(dataset)))
    return f"{UPDATES} updates of a small network on batches of {dataset.batch_size}"


def _scale(dataset: Dataset) -> dict[str, int]:
    known = {"embed", "similarity", "word", "dropout", "lse"}
    unknown = set(dataset.scale) - known
    if unknown:
        raise Failed(f"scale names {', '.join(sorted(unknown))}; it may name {', '.join(sorted(known))}")
    return cast("dict[str, int]", dict(dataset.scale))


AFTER = ("loads",)
CHECKS: Sequence[Check[Examined]] = (
    Check(
        "named",
        "the source has a name and a summary of one line, and says whether it needs files",
        "give the source name, summary and needs_root",
        _named,
    ),
    Check(
        "loads",
        "it loads, under its own name, with a version, a digest and the splits train, dev and test",
        "return an ncbench.Dataset from load(root); raise UserError for files that are missing or malformed",
        _loads,
    ),
    Check(
        "pairs",
        "every caption has an image that exists",
        "true is an int64 vector: for each caption of the split, the number of its image in the split",
        _pairs,
        AFTER,
    ),
    Check(
        "captions",
        "every caption has tokens, all of them in the vocabulary, and a text",
        "tokenise with dataset.vocabulary.encode, which adds <start> and <end> and knows unknown words",
        _captions,
        AFTER,
    ),
    Check(
        "features",
        "features are finite, differ between images, and have the same shape in all splits",
        "give (images, R, D) float32 for every split, with the same R and D",
        _features,
        (*AFTER, "pairs"),
    ),
    Check(
        "same-again",
        "loaded again it has the same content and the same digest",
        "make the digest of the content, and draw what is random from a fixed seed",
        _same_again,
        (*AFTER, "features"),
    ),
    Check(
        "apart",
        "no image is in two splits, and the features of train do not lead to those of dev or test",
        "remove what is twice; copy the rows of train, or keep splits in files of their own",
        _apart,
        (*AFTER, "features"),
    ),
    Check(
        "queries",
        f"dev and test have at least {FEWEST} images with a caption each, and folds divide them",
        "leave out images without captions, and make dev and test large enough",
        _queries,
        (*AFTER, "pairs"),
    ),
    Check(
        "closeness",
        "captions are closer in meaning to their own images than to others, in [0, 1], where that is known",
        "return 1 for a caption that says all of an image; or leave semantics out",
        _closeness,
        (*AFTER, "pairs"),
    ),
    Check(
        "trains",
        "a network can be built for it, and trained on it",
        "set batch_size, budget and scale, as scale={'embed': 64, 'similarity': 16, 'word': 48, 'dropout': 0.1}",
        _trains,
        (*AFTER, "pairs", "captions", "features"),
    ),
)


def check_source(source: DatasetSource, root: Path | None) -> Generator[Verdict, None, None]:
    """Yield the verdicts on a dataset, read below `root` if it needs files.

    Raises UserError for files that are missing or malformed, and where no folder was named.
    """
    found = Examined(source, root)
    if source.needs_root:
        found.check_files()
    yield from judge(CHECKS, found)
