"""Beliefs judged by the ground truth: when a run ends, and again when its record is verified."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ncbench.evaluation.beliefs import (
    CALIBRATION_BINS,
    Beliefs,
    Detection,
    detect,
    rank_correlation,
    rematch_quality,
)
from ncbench.records.arrays import BELIEFS_FILE, stored_in_single_precision
from ncbench.records.record import Record
from ncbench.records.result import Judgement, LabelDetection, RecordedRematches

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset
    from ncbench.noise.base import Noise

TOLERANCE = 1e-9
"""The formulas are the same, but sums may be taken in another order."""

ROUNDING = 1e-3
"""Of beliefs in single precision, as in older records: rounding may change an order or pass a threshold."""

EDGE = 1e-6
"""Of a bin of the calibration error: rounding to single precision moves a belief this near into the next bin."""


def judge(beliefs: Beliefs, noise: Noise, dataset: Dataset) -> Judgement:
    """Judge beliefs about the training pairs of `dataset` under `noise`, leaving out clean pairs that were given."""
    train, semantics = dataset.splits["train"], dataset.semantics
    clean, claimed = noise.clean(train.true), noise.claimed
    # The meaning of captions with words of other captions is unknown.
    known = semantics is not None and noise.splices is None
    closeness = partial(semantics.closeness, "train") if semantics is not None and known else None
    judged = np.setdiff1d(np.arange(len(clean)), beliefs.given_clean)
    detection = soft_labels = rematches = None
    if beliefs.p_clean is not None:
        detection = detect(beliefs.p_clean[judged], clean[judged])
    if beliefs.soft_labels is not None:
        labels, wrong = beliefs.soft_labels, np.flatnonzero(~clean)
        follows = None
        if closeness is not None:
            follows = rank_correlation(labels[wrong], closeness(wrong, claimed[wrong]))
        soft_labels = LabelDetection(**asdict(detect(labels[judged], clean[judged])), closeness_correlation=follows)
    if beliefs.rematches is not None and closeness is not None:
        found, n_images = beliefs.rematches, len(train.images)
        quality = rematch_quality(found.captions, found.images, found.weights, claimed, closeness, n_images)
        rematches = RecordedRematches(**asdict(quality))
    return Judgement(detection, soft_labels, rematches)


def check_beliefs(record: Record) -> Iterator[str]:
    """Judge the stored beliefs again by the ground truth beside them; yield what differs from the result.

    Older records and submissions have no beliefs. How close rematched images are in meaning takes the dataset: see
    `check_with_dataset`.
    """
    result, beliefs = record.result, record.beliefs
    if beliefs is None:
        return
    if len(beliefs.given_clean) != result.clean_pairs_given:
        yield f"{BELIEFS_FILE} has {len(beliefs.given_clean)} given clean pairs, the result {result.clean_pairs_given}"
    stated = result.beliefs.rematches
    if stated is not None:
        count = 0 if beliefs.rematches is None else int(np.count_nonzero(beliefs.rematches.weights > 0))
        if stated.count != count:
            yield f"the result has {stated.count} rematches, {BELIEFS_FILE} {count}"
    if beliefs.clean is None:
        return
    clean = beliefs.clean
    numbers = [beliefs.given_clean, *([beliefs.rematches.captions] if beliefs.rematches else [])]
    if any(part.max(initial=0) >= len(clean) for part in numbers):
        yield f"{BELIEFS_FILE} has pairs beyond the {len(clean)} of the training set"
        return
    if result.mismatched is None or abs(float(np.mean(~clean)) - result.mismatched) > TOLERANCE:
        yield f"the result has {result.mismatched} mismatched pairs, {BELIEFS_FILE} {np.mean(~clean)}"
    rounded = stored_in_single_precision(record.folder / BELIEFS_FILE)
    chosen = np.ones(len(clean), bool)
    chosen[beliefs.given_clean] = False
    judged = np.flatnonzero(chosen)  # np.setdiff1d takes a fifth of the time of all checks
    for name, scores, said in (
        ("detection", beliefs.p_clean, result.beliefs.detection),
        ("soft_labels", beliefs.soft_labels, result.beliefs.soft_labels),
    ):
        if (scores is None) != (said is None):
            yield f"the result {'has no' if said is None else 'has'} {name}, but {BELIEFS_FILE} says otherwise"
        elif scores is not None and said is not None and len(judged):
            yield from _differing(name, said, detect(scores[judged], clean[judged]), _slack(scores[judged], rounded))


def check_with_dataset(record: Record, dataset: Dataset) -> Iterator[str]:
    """Yield what differs if the ground truth comes from the dataset and the stored noise, not from the record."""
    result, beliefs = record.result, record.beliefs
    if beliefs is None or not dataset.truth_known or not record.noise_path.is_file():
        return
    noise = record.noise
    clean = noise.clean(dataset.splits["train"].true)
    if beliefs.clean is None or len(beliefs.clean) != len(clean):
        yield f"{BELIEFS_FILE} does not say which of the {len(clean)} pairs are clean"
        return
    wrong = int(np.count_nonzero(beliefs.clean != clean))
    if wrong:
        yield f"{BELIEFS_FILE} is wrong about which pairs are clean in {wrong} of {len(clean)} pairs"
        return
    if beliefs.rematches is not None and beliefs.rematches.images.max(initial=0) >= len(dataset.splits["train"].images):
        yield f"{BELIEFS_FILE} has images beyond those of the training set"
        return
    found, said = judge(beliefs, noise, dataset), result.beliefs
    rounded = ROUNDING if stored_in_single_precision(record.folder / BELIEFS_FILE) else TOLERANCE
    if (found.rematches is None) != (said.rematches is None):
        yield f"the result {'has no' if said.rematches is None else 'has'} rematches, but the dataset says otherwise"
    elif found.rematches is not None and said.rematches is not None:
        yield from _differing("rematches", said.rematches, found.rematches, {})
    if found.soft_labels is not None and said.soft_labels is not None:
        expected, stated = found.soft_labels.closeness_correlation, said.soft_labels.closeness_correlation
        if stated is not None and not alike(stated, expected, rounded):  # None in older records
            yield f"soft_labels closeness_correlation is {stated}, but the dataset gives {expected}"


def _slack(scores: Any, rounded: bool) -> dict[str, float]:
    """Return by how much the numbers of a detection may differ; the counts do not depend on the scores."""
    if not rounded:
        return {}
    bins = scores * CALIBRATION_BINS
    near = (np.abs(bins - np.rint(bins)) < EDGE) & (np.rint(bins) % CALIBRATION_BINS != 0)
    return {
        **dict.fromkeys(("auc", "precision", "recall"), ROUNDING),
        "calibration_error": ROUNDING + 2 * float(np.mean(near)),
    }


def _differing(name: str, said: object, found: Detection | RecordedRematches, slack: dict[str, float]) -> Iterator[str]:
    where = "the dataset" if isinstance(found, RecordedRematches) else BELIEFS_FILE
    for key, value in asdict(found).items():
        stated = getattr(said, key)
        if key == "chance" and stated is None:
            continue  # older records do not have it
        if not alike(stated, value, slack.get(key, TOLERANCE)):
            yield f"{name} {key} is {stated}, but {where} gives {value}"


def alike(said: float | None, found: float | None, tolerance: float = TOLERANCE) -> bool:
    """Return whether two scores are equal but for rounding; None, for one that is undefined, equals None."""
    if said is None or found is None:
        return said is found
    return math.isclose(said, found, rel_tol=0, abs_tol=tolerance)
