"""Noise audits: which of the claimed training pairs of a finished run its method believes to be mismatched."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ncbench.data.dataset import Captions, Dataset, IntVector
from ncbench.errors import UserError
from ncbench.evaluation.beliefs import Beliefs
from ncbench.noise.base import BoolVector, Noise
from ncbench.noise.ratio import noise_in_words
from ncbench.records.arrays import BELIEFS_FILE
from ncbench.records.record import Record
from ncbench.records.spec import RunSpec
from ncbench.runtime.files import check_absent, write_atomic

COLUMNS = (
    "rank",
    "pair",
    "caption",
    "claimed_image",
    "p_mismatched",
    "soft_label",
    "rematched_image",
    "weight",
    "told_clean",
)
PICTURES = ("claimed_picture", "rematched_picture")

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a cell begins with that spreadsheets take for a formula, or may after trimming it."""

NONE = -1


@dataclass(frozen=True)
class Audit:
    """A run with all that its audit is made of; everything is in the order of the training pairs.

    `p_clean` is (pairs,) in [0, 1]. `rematched` (pairs,) int64 are the images that the method believed in most instead
    of the claimed ones, NONE where it proposed none, and `weights` (pairs,) how much it did.
    """

    spec: RunSpec
    dataset: Dataset
    noise: Noise
    beliefs: Beliefs
    p_clean: NDArray[np.float64]
    rematched: IntVector
    weights: NDArray[np.float64]

    @property
    def title(self) -> str:
        """Which run it is, in words."""
        spec = self.spec
        noise = noise_in_words(spec.protocol, spec.noise)
        return f"{spec.method} on {spec.dataset}, {noise}, {spec.backbone}, seed {spec.seed}"

    @property
    def captions(self) -> Captions:
        """The training captions as the method saw them. Raises UserError for splices of others."""
        try:
            return self.noise.seen(self.dataset.splits["train"].captions, self.dataset.vocabulary)
        except ValueError as error:
            raise UserError(f"the noise that is kept does not fit {self.dataset.name}: {error}; restore it.") from error

    @property
    def order(self) -> IntVector:
        """The pairs, the most likely mismatched first; those alike by number."""
        return np.argsort(self.p_clean, kind="stable")

    @property
    def flagged(self) -> int:
        """How many pairs are more likely mismatched than not."""
        return int(np.count_nonzero(self.p_clean < 0.5))

    @property
    def untold(self) -> IntVector:
        """The pairs that the method had to judge by itself: not told that they are clean."""
        return np.setdiff1d(np.arange(len(self.p_clean)), self.beliefs.told)

    def clean(self) -> BoolVector:
        """Return which pairs are truly matched, (pairs,) bool. Raises UserError where nobody knows."""
        if not self.dataset.truth_known:
            raise UserError(f"{self.dataset.name} is mismatched by nature: nobody knows which of its pairs are.")
        return self.noise.clean(self.dataset.splits["train"].true)


@dataclass(frozen=True)
class Shown:
    """The files of the pictures of a row: of the claimed image and of the rematched one, None if there is none."""

    claimed: Path
    rematched: Path | None


def load_audit(folder: Path, data_root: Path | None) -> Audit:
    """Return the audit of the finished run in `folder`; its noise is in the folder of records around it.

    Raises UserError if the method stated no beliefs about single pairs, or the record does not fit the available data.
    """
    record = Record(folder)
    record.check_finished()
    spec, beliefs = record.spec, record.beliefs
    if beliefs is None:
        raise UserError(f"{folder}: {BELIEFS_FILE} is missing, as in older records; run it again")
    if beliefs.p_clean is None:
        raise UserError(
            f"{folder}: {spec.method} stated no probability that pairs are mismatched: it never does, or its budget "
            "was too small; audit another run"
        )
    noise, dataset = record.noise, record.dataset(data_root)
    n_images, n_pairs = len(dataset.splits["train"].images), len(dataset.splits["train"].captions)
    if len(noise.claimed) != n_pairs or not _all_below(noise.claimed, n_images) or noise.claimed.min(initial=0) < 0:
        raise UserError(
            f"{record.noise_path}: does not fit the training pairs of {dataset.name}; restore the stored noise"
        )
    _check_fit(beliefs, n_pairs, n_images, folder / BELIEFS_FILE)
    return Audit(spec, dataset, noise, beliefs, beliefs.p_clean, *_strongest(beliefs, n_pairs))


def write_audit(
    audit: Audit, path: Path, top: int | None = None, with_truth: bool = False, shown: Sequence[Shown] = ()
) -> int:
    """Write the CSV of the `top` pairs (None: all), the most likely mismatched first; return how many they are.

    `with_truth` adds which of them are mismatched; `shown` holds the files of the first rows, for columns of their own
    with paths as seen from the CSV. Raises UserError where the truth is not known, and OSError.
    """
    clean = audit.clean() if with_truth else None
    names = [*COLUMNS, *(["mismatched"] if with_truth else []), *(PICTURES if shown else [])]
    content = io.StringIO()
    writer = csv.DictWriter(content, names, lineterminator="\n")
    writer.writeheader()
    count = 0
    for row in _rows(audit, top):
        if clean is not None:
            row["mismatched"] = not clean[row["pair"]]
        if shown:
            files = (shown[count].claimed, shown[count].rematched) if count < len(shown) else (None, None)
            row |= {name: _as_seen(file, path) for name, file in zip(PICTURES, files, strict=True)}
        writer.writerow({name: _harmless(value) for name, value in row.items()})
        count += 1
    write_atomic(path, lambda file: file.write(content.getvalue().encode(errors="replace")))
    return count


def write_pictures(audit: Audit, top: int, folder: Path, replace: bool = False) -> list[Shown]:
    """Write PNGs of the claimed and rematched images of the `top` pairs into `folder`; return the files of each row.

    Files that hold the same picture are left alone, and others refused unless they are to be replaced.
    Raises UserError for that, and where the dataset has no pictures.
    """
    pictures = audit.dataset.pictures
    if pictures is None:
        raise UserError(f"{audit.dataset.name} has no pictures, only features of them; leave out --pictures.")
    written: dict[int, Path] = {}

    def file_of(image: int) -> Path:
        if image not in written:
            written[image] = folder / f"image-{image:06d}.png"
            _write_png(pictures.picture("train", image), written[image], replace)
        return written[image]

    pairs = audit.order[:top]
    claimed = [file_of(int(audit.noise.claimed[pair])) for pair in pairs]
    rematched = [file_of(int(image)) if image != NONE else None for image in audit.rematched[pairs]]
    return [Shown(*files) for files in zip(claimed, rematched, strict=True)]


def _check_fit(beliefs: Beliefs, n_pairs: int, n_images: int, path: Path) -> None:
    """Raise UserError unless `beliefs` are of a training set of this size."""
    for name in ("p_clean", "soft_labels"):
        values = getattr(beliefs, name)
        if values is not None and (len(values) != n_pairs or values.max(initial=0) > 1):
            raise UserError(f"{path}: {name} must be {n_pairs:,} numbers in [0, 1], one per training pair; restore it.")
    pairs, images = [beliefs.told], []
    if beliefs.rematches is not None:
        pairs.append(beliefs.rematches.captions)
        images.append(beliefs.rematches.images)
    if not all(_all_below(part, n_pairs) for part in pairs) or not all(_all_below(part, n_images) for part in images):
        raise UserError(
            f"{path}: names pairs or images beyond the {n_pairs:,} and {n_images:,} of the training set; restore it."
        )


def _all_below(numbers: IntVector, stop: int) -> bool:
    return int(numbers.max(initial=-1)) < stop


def _strongest(beliefs: Beliefs, n_pairs: int) -> tuple[IntVector, NDArray[np.float64]]:
    """Return per pair the image of its rematch of most weight, and the weight; of equal ones the lowest image.

    Rematches of weight 0 are not believed: such pairs have NONE, as those without any.
    """
    images, weights = np.full(n_pairs, NONE), np.zeros(n_pairs)
    found = beliefs.rematches
    if found is not None:
        believed = np.flatnonzero(found.weights > 0)
        order = believed[np.lexsort((found.images[believed], -found.weights[believed]))]
        captions, first = np.unique(found.captions[order], return_index=True)
        images[captions], weights[captions] = found.images[order[first]], found.weights[order[first]]
    return images, weights


def _rows(audit: Audit, top: int | None) -> Iterator[dict[str, Any]]:
    texts, told = audit.captions.texts, set(audit.beliefs.told.tolist())
    labels = audit.beliefs.soft_labels
    for rank, pair in enumerate(audit.order[:top].tolist(), 1):
        proposed = audit.rematched[pair] != NONE
        values = (
            rank,
            pair,
            texts[pair],
            int(audit.noise.claimed[pair]),
            f"{1 - audit.p_clean[pair]:.6f}",
            "" if labels is None else f"{labels[pair]:.6f}",
            int(audit.rematched[pair]) if proposed else "",
            f"{audit.weights[pair]:.6f}" if proposed else "",
            pair in told,
        )
        yield dict(zip(COLUMNS, values, strict=True))


def _as_seen(file: Path | None, path: Path) -> str:
    """Return the relative path from the folder of `path` to `file`; nothing if there is none."""
    return "" if file is None else Path(os.path.relpath(file, path.parent)).as_posix()


def _harmless(value: object) -> object:
    """Return a cell that no spreadsheet computes: text that begins like a formula gets an apostrophe before it.

    Carriage returns become line feeds: older versions of the csv module leave them unquoted, where they end a row.
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if value.startswith(FORMULA) else text


def _write_png(picture: NDArray[np.uint8], path: Path, replace: bool) -> None:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "png")
    png = content.getvalue()
    if path.exists():
        if path.is_file() and path.read_bytes() == png:
            return
        if not replace:
            check_absent([path])
    write_atomic(path, lambda file: file.write(png))
