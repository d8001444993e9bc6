"""Noise audits: which training pairs the method of a finished run believes to be mismatched."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

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
from ncbench.runtime.printable import spreadsheet_cell

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
ORIGIN_COLUMNS = ("id", "source_file", "source_row", "image_file")
"""Added for imported datasets: the row that the caption comes from, and the file of the claimed image."""

TRUTH_COLUMNS = ("mismatched", "change")
"""Added on request: whether the pair is mismatched, and what noise did to it; see `ncbench.noise.base.Change`."""

PICTURE_COLUMNS = ("claimed_picture", "rematched_picture")

NO_REMATCH = -1
"""The number of the rematched image of pairs without a rematch."""


@dataclass(frozen=True)
class Audit:
    """A run with everything its audit needs; arrays are in the order of the training pairs.

    `p_clean` is (pairs,) in [0, 1]. `rematched` (pairs,) int64 is the rematched image of the highest weight, NO_REMATCH
    without one; `weights` (pairs,) are these weights.
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
        """A description of the run."""
        spec = self.spec
        noise = noise_in_words(spec.protocol, spec.noise)
        return f"{spec.method} on {spec.dataset}, {noise}, {spec.backbone}, seed {spec.seed}"

    @property
    def captions(self) -> Captions:
        """The training captions as the method saw them. Raises UserError for noise of another dataset."""
        try:
            return self.noise.seen(self.dataset.splits["train"].captions, self.dataset.vocabulary)
        except ValueError as error:
            raise UserError(f"the stored noise does not fit {self.dataset.name}: {error}; restore it") from error

    @property
    def order(self) -> IntVector:
        """The pairs, the most likely mismatched first; ties by number."""
        return np.argsort(self.p_clean, kind="stable")

    @property
    def flagged(self) -> int:
        """The number of pairs that are more likely mismatched than not."""
        return int(np.count_nonzero(self.p_clean < 0.5))

    @property
    def judged(self) -> IntVector:
        """The pairs that the method had to judge: all but the clean pairs that it was given."""
        return np.setdiff1d(np.arange(len(self.p_clean)), self.beliefs.given_clean)

    def clean(self) -> BoolVector:
        """Return which pairs are truly matched, (pairs,) bool. Raises UserError without ground truth."""
        if not self.dataset.truth_known:
            raise UserError(
                f"{self.dataset.name} has no ground truth: which of its pairs are mismatched is unknown; leave out "
                "--with-truth and --figure"
            )
        return self.noise.clean(self.dataset.splits["train"].true)

    def changes(self) -> NDArray[np.str_]:
        """Return what noise did to each pair, (pairs,) of `ncbench.noise.base.Change`."""
        return self.noise.changes(self.dataset.splits["train"].true)


@dataclass(frozen=True)
class Shown:
    """The picture files of a row: the claimed image, and the rematched one or None."""

    claimed: Path
    rematched: Path | None


def load_audit(folder: Path, data_root: Path | None) -> Audit:
    """Return the audit of the finished run in `folder`; its noise is in the folder of records around it.

    Raises UserError if the method stated no beliefs about single pairs, or the record does not fit the available data.
    """
    record = Record(folder)
    record.check_finished()
    spec = record.spec
    if not record.has(BELIEFS_FILE):
        raise record.missing(BELIEFS_FILE)
    noise, dataset = record.noise, record.dataset(data_root)
    n_images, n_pairs = len(dataset.splits["train"].images), len(dataset.splits["train"].captions)
    if len(noise.claimed) != n_pairs or not _all_below(noise.claimed, n_images) or noise.claimed.min(initial=0) < 0:
        raise UserError(
            f"{record.noise_path}: does not fit the training pairs of {dataset.name}; restore the stored noise"
        )
    beliefs = record.beliefs
    if beliefs is None or beliefs.p_clean is None:
        raise UserError(
            f"{folder}: {spec.method} stated no probability that pairs are mismatched: it never does, or its budget "
            "was too small; audit another run"
        )
    _check_fit(beliefs, n_pairs, n_images, folder / BELIEFS_FILE)
    return Audit(spec, dataset, noise, beliefs, beliefs.p_clean, *_strongest(beliefs, n_pairs))


def write_audit(
    audit: Audit, path: Path, top: int | None = None, with_truth: bool = False, shown: Sequence[Shown] = ()
) -> int:
    """Write the CSV of the `top` pairs (None: all), the most likely mismatched first; return the number of rows.

    `with_truth` adds TRUTH_COLUMNS. `shown` holds the picture files of the first rows,
    which are written as paths relative to the CSV. Raises UserError without ground truth, and OSError.
    """
    truth = (~audit.clean(), audit.changes()) if with_truth else None
    names = [
        *COLUMNS,
        *(ORIGIN_COLUMNS if audit.dataset.origins else []),
        *(TRUTH_COLUMNS if with_truth else []),
        *(PICTURE_COLUMNS if shown else []),
    ]
    count = 0

    def write(file: BinaryIO) -> None:
        nonlocal count
        text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        for row in _rows(audit, top):
            if truth is not None:
                row |= {name: values[row["pair"]] for name, values in zip(TRUTH_COLUMNS, truth, strict=True)}
            if shown:
                files = (shown[count].claimed, shown[count].rematched) if count < len(shown) else (None, None)
                row |= {name: _relative(file, path) for name, file in zip(PICTURE_COLUMNS, files, strict=True)}
            writer.writerow({name: spreadsheet_cell(value) for name, value in row.items()})
            count += 1
        text.detach()  # flushes, and leaves the file open

    write_atomic(path, write)
    return count


def write_pictures(audit: Audit, top: int, folder: Path, replace: bool = False) -> list[Shown]:
    """Write PNGs of the claimed and rematched images of the `top` pairs into `folder`; return the files of each row.

    Files that have the same content are not rewritten. Raises UserError for files with other content unless `replace`
    is given, and for datasets without pictures.
    """
    pictures = audit.dataset.pictures
    if pictures is None:
        raise UserError(f"{audit.dataset.name} has features, but no pictures; leave out --pictures")
    written: dict[int, Path] = {}

    def file_of(image: int) -> Path:
        if image not in written:
            written[image] = folder / f"image-{image:06d}.png"
            _write_png(pictures.picture("train", image), written[image], replace)
        return written[image]

    pairs = audit.order[:top]
    claimed = [file_of(int(audit.noise.claimed[pair])) for pair in pairs]
    rematched = [file_of(int(image)) if image != NO_REMATCH else None for image in audit.rematched[pairs]]
    return [Shown(*files) for files in zip(claimed, rematched, strict=True)]


def _check_fit(beliefs: Beliefs, n_pairs: int, n_images: int, path: Path) -> None:
    """Raise UserError unless `beliefs` fit a training set of this size."""
    for name in ("p_clean", "soft_labels"):
        values = getattr(beliefs, name)
        if values is not None and (len(values) != n_pairs or values.max(initial=0) > 1):
            raise UserError(f"{path}: {name} must be {n_pairs:,} numbers in [0, 1], one per training pair; restore it")
    pairs, images = [beliefs.given_clean], []
    if beliefs.rematches is not None:
        pairs.append(beliefs.rematches.captions)
        images.append(beliefs.rematches.images)
    if not all(_all_below(part, n_pairs) for part in pairs) or not all(_all_below(part, n_images) for part in images):
        raise UserError(
            f"{path}: has pairs or images beyond the {n_pairs:,} and {n_images:,} of the training set; restore it"
        )


def _all_below(numbers: IntVector, stop: int) -> bool:
    return int(numbers.max(initial=-1)) < stop


def _strongest(beliefs: Beliefs, n_pairs: int) -> tuple[IntVector, NDArray[np.float64]]:
    """Return the rematched image of the highest weight of every pair, and the weight; of ties the lowest image.

    Rematches of weight 0 do not count: such pairs have NO_REMATCH, like those without a rematch.
    """
    images, weights = np.full(n_pairs, NO_REMATCH), np.zeros(n_pairs)
    found = beliefs.rematches
    if found is not None:
        believed = np.flatnonzero(found.weights > 0)
        order = believed[np.lexsort((found.images[believed], -found.weights[believed]))]
        captions, first = np.unique(found.captions[order], return_index=True)
        images[captions], weights[captions] = found.images[order[first]], found.weights[order[first]]
    return images, weights


def _rows(audit: Audit, top: int | None) -> Iterator[dict[str, Any]]:
    texts, told = audit.captions.texts, set(audit.beliefs.given_clean.tolist())
    labels, rows_of_captions = audit.beliefs.soft_labels, audit.dataset.splits["train"].true
    for rank, pair in enumerate(audit.order[:top].tolist(), 1):
        proposed = audit.rematched[pair] != NO_REMATCH
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
        row = dict(zip(COLUMNS, values, strict=True))
        if audit.dataset.origins is not None:
            of = audit.dataset.origins
            found, image = of.origin("train", int(rows_of_captions[pair])), of.origin("train", row["claimed_image"])
            row |= zip(ORIGIN_COLUMNS, (found.id, found.file, found.row, image.picture), strict=True)
        yield row


def _relative(file: Path | None, path: Path) -> str:
    """Return `file` relative to the folder of `path`; "" for None."""
    return "" if file is None else Path(os.path.relpath(file, path.parent)).as_posix()


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
