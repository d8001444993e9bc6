"""Run records as one tidy table."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ncbench.budget import Budget
from ncbench.errors import UserError
from ncbench.plugins.discovery import NAME
from ncbench.records.index import indexed_results


def load_runs(folder: Path | str) -> pd.DataFrame:
    """Return a row per finished run below `folder`: its axes, scores in percent, work, seconds and peak bytes.

    `variant` is the method's name, with those settings that differ between records of this method and dataset, and its
    epochs where the budget is in its own; `allowance` is the budget, but 0 for all that are not compute-matched.
    `rsum_unfolded` is that of all test images where `rsum` is a mean over folds; `sizes` are those of the backbone;
    `folder` is where the record lies.
    Raises UserError where there is no folder or no record in it.
    """
    rows = []
    for path, result, measurements in indexed_results(Path(folder)):
        try:
            _check_names(path, result["spec"])
            rows.append({**_row(result, measurements), "folder": str(path)})
        except (AttributeError, KeyError, TypeError) as error:
            raise UserError(
                f"{path / 'result.json'}: is no run record ({error!r}); restore it or delete its folder."
            ) from error
    if not rows:
        raise UserError(f"{folder} holds no finished run; make some with: ncbench run --method triplet --out {folder}")
    frame = pd.DataFrame(rows)
    frame["variant"] = _variants(frame)
    frame["conditions"] = _conditions(frame)
    return frame.drop(columns=["settings", "held"])


def _check_names(path: Path, spec: Mapping[str, Any]) -> None:
    """Raise UserError for a dataset that cannot name the files of its page."""
    if not NAME.fullmatch(str(spec["dataset"])):
        raise UserError(f"{path / 'result.json'}: {spec['dataset']!r} is no name of a dataset; delete its folder.")


def _row(result: Mapping[str, Any], measurements: Mapping[str, Any]) -> dict[str, Any]:
    spec, test, work = result["spec"], result["metrics"]["test"], result["work"]
    budget = Budget(spec["budget"], spec.get("budget_unit", "epochs"))  # records of old have no unit
    # Records of old do not have this, and a budget in baseline epochs.
    baseline_epoch = work.get("baseline_epoch") or work["budget"] / spec["budget"]
    axes = ("dataset", "protocol", "unit", "noise", "method", "settings", "backbone", "seed")
    peaks = [peak for peak in measurements.get("peak_bytes", {}).values() if peak is not None]
    detection = result["beliefs"].get("detection") or {}
    labels = result["beliefs"].get("soft_labels") or {}
    rematches = result["beliefs"].get("rematches") or {}
    held = {f"backbone.{key}": value for key, value in spec["sizes"].items()}
    held |= {key: spec[key] for key in ("evaluations", "dataset_version", "dataset_digest", "protocol_version")}
    held["precision"] = spec.get("precision", "float32")  # records of old have none
    return {
        "id": result["id"],
        "held": held,
        **{axis: spec[axis] for axis in axes},
        "source": spec.get("source", ""),
        "sizes": ", ".join(f"{key}={value}" for key, value in sorted(spec["sizes"].items())),
        "budget": budget.amount,
        "budget_unit": budget.unit,
        "allowance": budget.amount if budget.matched else 0.0,
        "sees_truth": result.get("told_truth", False),
        "clean_pairs_given": result.get("told_clean", 0),
        **{f"{side}_{key}": test[side][key] for side in ("i2t", "t2i") for key in ("r1", "r5", "r10", "medr", "meanr")},
        "rsum": test["rsum"],
        "rsum_unfolded": result["metrics"].get("test_unfolded", {}).get("rsum"),
        "dev_rsum": result["selected"]["dev_rsum"],
        "used": work["used"] / baseline_epoch,
        "flops": work["used"],
        "pair_passes": work.get("pair_passes"),
        "samples": work.get("samples"),
        "updates": work["updates"],
        "seconds": measurements.get("seconds", {}).get("training"),
        "overhead": _outside(measurements),
        "peak_bytes": max(peaks) if peaks else None,
        "auc": detection.get("auc"),
        "label_auc": labels.get("auc"),
        "rematched_closer": rematches.get("closer"),
        "rematched_chance": rematches.get("chance"),
    }


def _outside(measurements: Mapping[str, Any]) -> float | None:
    """Return the share of the training time that was spent outside of backbones; None where it was not measured."""
    training, spent = measurements.get("seconds", {}).get("training"), measurements.get("outside")
    return None if not training or spent is None else sum(spent.values()) / training


def _variants(frame: pd.DataFrame) -> list[str]:
    """Return per run the method, told apart from other settings of it."""
    names: dict[Hashable, str] = {}
    for (method, _), rows in frame.groupby(["method", "dataset"]):
        differing, sources = _differing(rows["settings"]), rows["source"].nunique() > 1
        for number, settings, source, unit, budget in zip(
            rows.index, rows["settings"], rows["source"], rows["budget_unit"], rows["budget"], strict=True
        ):
            told = [f"{key}={value}" for key, value in settings.items() if key in differing]
            if sources:
                told.append(f"source={source!s}" if source else "installed")
            if unit == "own-epochs":
                told.append(f"{budget:g} own epochs")
            names[number] = f"{method} ({', '.join(told)})" if told else str(method)
    return [names[number] for number in frame.index]


def _conditions(frame: pd.DataFrame) -> list[str]:
    """Return per run what else it was run under, where that differs between runs of the same axes."""
    axes = ["dataset", "backbone", "budget_unit", "allowance", "protocol", "unit", "noise"]
    texts: dict[Hashable, str] = {}
    for _, rows in frame.groupby(axes):
        differing = _differing(rows["held"])
        for number, held in rows["held"].items():
            texts[number] = ", ".join(f"{key}={str(value)[:8]}" for key, value in held.items() if key in differing)
    return [texts[number] for number in frame.index]


def _differing(rows: Iterable[Mapping[str, object]]) -> set[str]:
    """Return the keys whose values are not the same in all rows; one that lacks a key has None there."""
    first, *others = rows
    keys = dict.fromkeys(key for row in (first, *others) for key in row)
    return {key for key in keys if any(row.get(key) != first.get(key) for row in others)}
