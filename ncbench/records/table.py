"""Run records as one tidy table."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ncbench.data.same_names import told_apart
from ncbench.errors import UserError
from ncbench.method.registry import preset_of
from ncbench.noise.ratio import NATURAL
from ncbench.records.arrays import SIDES
from ncbench.records.gathered import results_of
from ncbench.records.problems import FAILS, OnProblem, Problem, stop
from ncbench.records.record import Record
from ncbench.records.result import Fitting
from ncbench.records.variants import differing_keys, settings_to_name

AXES = ("dataset", "protocol", "unit", "noise", "method", "settings", "backbone", "seed", "source")
CONDITIONS = ("evaluations", "dataset_version", "protocol_version", "precision", "backbone_source")
SCORES = ("r1", "r5", "r10", "medr", "meanr")
FITTING_SCORES = {"map_at_r": "map_at_r", "r_precision": "r_precision", "r1_fitting": "r1", "forgiven": "forgiven"}
"""Attributes of `FittingScores`, by the column that holds them for a direction."""


def load_runs(
    folder: Path | str | Sequence[Path | str],
    on_problem: OnProblem = stop,
    verify: Callable[[Path], Sequence[str]] = lambda folder: (),
    row_of: Callable[[Record], Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """Return one row per finished run in `folder`: its axes, scores in percent, work, seconds and peak bytes.

    `folder` may be several folders; of runs with one id, the first is taken. `submission` is the name of the submission
    that the record was unpacked from, "" for a run that was executed here.

    `noise` is NaN where pairs are mismatched by nature, as nobody knows how many. `variant` is the name of the method,
    with those settings that differ between runs of this method and dataset and are not those of the preset, and with
    the epochs of a budget in own epochs, or "self-reported". `allowance` is the budget, 0 for budgets that are not
    compute-matched. `used` is NaN for self-reported runs, `flops` where nobody told them. `sees_truth` says whether the
    method knew which pairs are clean, `clean_pairs_given` how many clean pairs it was given. `rsum_unfolded` is the
    rSum of the whole test split where `rsum` is a mean over folds. Where it is known which captions fit which images,
    there are scores for all that fits, in percent (`ncbench.evaluate_fitting`): `map_at_r`, the mean of `i2t_map_at_r`
    and `t2i_map_at_r`, and for both directions `r_precision`, `r1_fitting` and `forgiven`. `overhead` is the share of
    the training time outside the networks, `resumed_at` the share of the budget at which the run was last resumed.
    `harness` is the version of the harness that made the run, and `dataset_digest` identifies the data; both are part
    of `conditions` where a dataset has runs of several. `sizes` are those of the backbone, `folder` that of the record.

    Damaged records are left out and passed to `on_problem`, which by default raises UserError. `verify` returns what is
    wrong with the record in a folder (`ncbench.records.verification`): this is the text in `problems`, such a record
    has a `variant` of its own, and `on_problem` gets it too. `row_of` may remember what `read_row` returns. Raises
    UserError without any finished run that can be read, and for a folder that cannot be listed.
    """
    rows, left_out = [], list[str]()
    folders = [Path(each) for each in ([folder] if isinstance(folder, (str, Path)) else folder)]
    for record in results_of(folders):
        try:
            row = (row_of or read_row)(record)
        except UserError as error:
            on_problem(Problem(record.folder, str(error), left_out=True))
            left_out.append(str(error))
            continue
        found = [Problem(record.folder, text, left_out=False) for text in verify(record.folder)]
        for problem in found:
            on_problem(problem)
        rows.append({**row, "problems": "; ".join(problem.text for problem in found)})
    if left_out and not rows:
        others = f" (and {len(left_out) - 1} more records)" if len(left_out) > 1 else ""
        raise UserError(f"{left_out[0]}{others}")
    if not rows:
        where = folders[0]
        raise UserError(f"{where} has no finished run; make one with: ncbench run --method triplet --out {where}")
    frame = pd.DataFrame(rows)
    for column in ("used", "flops"):  # unknown of self-reported runs
        if frame[column].isna().any():
            frame[column] = frame[column].astype(float)
    frame["variant"] = _variants(frame)
    frame["conditions"] = _conditions(frame)
    frame["noise"] = frame["noise"].astype(float).mask(frame["protocol"] == NATURAL)
    return frame.drop(columns=["settings", "held"])


def sound(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `load_runs` whose records have no problems."""
    return frame[~failing(frame)]


def failing(frame: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows of `load_runs` have problems; tables of older versions do not say."""
    if "problems" not in frame:
        return pd.Series(False, frame.index)
    return frame["problems"].fillna("") != ""


def with_recorded_ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` with the ratio that records of natural noise have, 0, as pandas leaves groups of NaN out."""
    return frame.assign(noise=frame["noise"].fillna(0.0))


def read_row(record: Record) -> dict[str, Any]:
    """Return the columns of a record that do not depend on other records. Raises UserError for a damaged one."""
    result, measurements = record.result, record.measurements
    spec, work, metrics = result.spec, result.work, result.metrics
    budget, beliefs = spec.budget, result.beliefs
    held = {f"backbone.{key}": value for key, value in spec.sizes.items()}
    held |= {key: getattr(spec, key) for key in CONDITIONS}
    return {
        "id": result.id,
        "held": held,
        **{axis: getattr(spec, axis) for axis in AXES},
        "sizes": ", ".join(f"{key}={value}" for key, value in sorted(spec.sizes.items())),
        "harness": spec.harness,
        "dataset_digest": spec.dataset_digest,
        "budget": budget.amount,
        "budget_unit": budget.unit,
        "allowance": budget.amount if budget.matched else 0.0,
        "sees_truth": result.sees_truth,
        "clean_pairs_given": result.clean_pairs_given,
        **{f"{side}_{key}": getattr(getattr(metrics.test, side), key) for side in SIDES for key in SCORES},
        "rsum": metrics.test.rsum,
        "rsum_unfolded": metrics.test_unfolded.rsum if metrics.test_unfolded else None,
        **_fitting_columns(metrics.fitting),
        "dev_rsum": result.selected.dev_rsum,
        "used": result.baseline_epochs,
        "flops": work.used or None,
        "pair_passes": work.pair_passes,
        "samples": work.samples,
        "updates": work.updates,
        "seconds": measurements.seconds.training if measurements else None,
        "overhead": measurements.overhead_share if measurements else None,
        "peak_bytes": measurements.peak if measurements else None,
        "resumed_at": measurements.resumed_at if measurements else None,
        "auc": beliefs.detection.auc if beliefs.detection else None,
        "label_auc": beliefs.soft_labels.auc if beliefs.soft_labels else None,
        "rematched_closer": beliefs.rematches.closer if beliefs.rematches else None,
        "rematched_chance": beliefs.rematches.chance if beliefs.rematches else None,
        "submission": (record.origin() or {}).get("submission", ""),
        "folder": str(record.folder),
    }


def _fitting_columns(found: Fitting | None) -> dict[str, float | None]:
    """Return the scores for all that fits, None where they are unknown."""
    columns: dict[str, float | None] = {"map_at_r": found.retrieval.map_at_r if found else None}
    for side in SIDES:
        for column, name in FITTING_SCORES.items():
            columns[f"{side}_{column}"] = getattr(getattr(found, side), name) if found else None
    return columns


def _variants(frame: pd.DataFrame) -> list[str]:
    """Return the name of the method of each run, with what distinguishes it from other runs of the method.

    Settings of the preset are never named: such runs keep the bare name of the method.
    """
    names, fails = dict[Hashable, str](), failing(frame)
    for (method, dataset), rows in frame.groupby(["method", "dataset"]):
        presets = (preset_of(str(method), source, str(dataset)) for source in rows["source"])
        named = settings_to_name([*rows["settings"]], presets)
        sources = rows["source"].nunique() > 1
        for number, details, source, unit, budget in zip(
            rows.index, named, rows["source"], rows["budget_unit"], rows["budget"], strict=True
        ):
            if sources:
                details.append(f"source={source!s}" if source else "installed")
            if unit == "own-epochs":
                details.append(f"{budget:g} own epochs")
            if unit == "self-reported":
                details.append("self-reported")
            if fails[number]:
                details.append(FAILS)
            names[number] = f"{method} ({', '.join(details)})" if details else str(method)
    return [names[number] for number in frame.index]


def _conditions(frame: pd.DataFrame) -> list[str]:
    """Return the other conditions of each run that differ between runs of the same axes.

    The version of the harness, and the digest of the data, are among them if they differ between any runs of the
    dataset, so that no average mixes two.
    """
    datasets = [*zip(frame["dataset"], frame["dataset_digest"], strict=True)]
    labels = told_apart(datasets)
    contents = dict(zip(frame.index, (labels[each].partition("@")[2] for each in datasets), strict=True))
    mixed = frame.groupby("dataset")["harness"].transform("nunique") > 1
    axes = ["dataset", "backbone", "budget_unit", "allowance", "protocol", "unit", "noise"]
    texts: dict[Hashable, str] = {}
    for _, rows in frame.groupby(axes):
        differing = differing_keys(rows["held"])
        for number, held in rows["held"].items():
            texts[number] = ", ".join(f"{key}={str(value)[:8]}" for key, value in held.items() if key in differing)
    for number, content in contents.items():
        if content:
            texts[number] = ", ".join(filter(None, [f"content {content}", texts[number]]))
    for number, harness in frame.loc[mixed, "harness"].items():
        texts[number] = ", ".join(filter(None, [f"harness {harness}", texts[number]]))
    return [texts[number] for number in frame.index]
