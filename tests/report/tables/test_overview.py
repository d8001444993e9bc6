"""A dataset in one table: averages over ratios that are complete, the share retained, and missing runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncbench.records.table import load_runs
from ncbench.report.tables.overview import Overview, overviews, rows

Record = Callable[..., Path]


def put(record: Record, method: str, noise: float, rsum: float, **axes: Any) -> None:
    clean = {"protocol": "clean", "unit": "clean"} if noise == 0 else {}
    record(*[rsum / 6] * 6, method=method, noise=noise, **{**clean, **axes})


def only(folder: Path) -> Overview:
    (found,) = overviews(load_runs(folder))
    return found


def test_averages_and_share_retained(record: Record, tmp_path: Path) -> None:
    for noise, rsum in ((0.0, 400.0), (0.2, 300.0), (0.6, 100.0)):
        put(record, "a", noise, rsum)
        put(record, "a", noise, rsum + 20, seed=1)
        put(record, "b", noise, 60.0)
        put(record, "b", noise, 60.0, seed=1)
    found = only(tmp_path)
    assert found.title == "shuffle-images (unit: images), sgr, budget 4"
    assert found.missing == []
    assert rows(found) == [
        ["method", "clean", "0.2", "0.6", "average", "retained"],
        ["a", "410.0 ± 14.1", "310.0 ± 14.1", "110.0 ± 14.1", "210.0", "51%"],
        ["b", "60.0 ± 0.0", "60.0 ± 0.0", "60.0 ± 0.0", "60.0", "100%"],
    ]


def test_nothing_is_averaged_over_fewer_ratios(record: Record, tmp_path: Path) -> None:
    for noise in (0.0, 0.2, 0.4):
        put(record, "whole", noise, 100.0)
    put(record, "whole", 0.4, 100.0, seed=1)
    put(record, "part", 0.2, 300.0)
    found = only(tmp_path)
    assert math.isnan(found.average["part"])
    assert math.isnan(found.retained["part"])
    assert rows(found)[1:] == [
        ["whole", "100.0", "100.0", "100.0 ± 0.0", "100.0", "100%"],
        ["part", "-", "300.0", "-", "-", "-"],  # not before one that is complete
    ]
    assert found.missing == [
        "at 0: whole (1 of 2 seeds), part",
        "at 0.2: whole (1 of 2 seeds), part (1 of 2 seeds)",
        "at 0.4: part",
    ]


def test_without_clean_runs_no_share_is_retained(record: Record, tmp_path: Path) -> None:
    put(record, "a", 0.2, 100.0)
    put(record, "a", 0.4, 50.0)
    assert rows(only(tmp_path))[1] == ["a", "100.0", "50.0", "75.0", "-"]


def test_references_come_last_and_say_so(record: Record, tmp_path: Path) -> None:
    for noise in (0.2, 0.4):
        put(record, "oracle", noise, 500.0, told_truth=True)
        put(record, "a", noise, 100.0)
    assert [row[0] for row in rows(only(tmp_path))[1:]] == ["a", "oracle (sees ground truth)"]


def test_clean_runs_belong_to_every_protocol_and_units_are_apart(record: Record, tmp_path: Path) -> None:
    put(record, "a", 0.0, 100.0)
    put(record, "a", 0.4, 50.0)
    put(record, "a", 0.4, 70.0, protocol="shuffle-captions", unit="captions")
    put(record, "a", 0.4, 70.0, backbone="vse")  # one ratio is no row over ratios
    captions, images = overviews(load_runs(tmp_path))
    assert captions.title == "shuffle-captions (unit: captions), sgr, budget 4"
    assert rows(captions)[1] == ["a", "100.0", "70.0", "70.0", "70%"]
    assert rows(images)[1] == ["a", "100.0", "50.0", "50.0", "50%"]


@pytest.mark.parametrize("axis", [{"budget": 8.0}, {"backbone": "vse"}, {"budget_unit": "seconds"}])
def test_other_conditions_are_apart(axis: dict[str, Any], record: Record, tmp_path: Path) -> None:
    for noise in (0.2, 0.4):
        put(record, "a", noise, 100.0)
        put(record, "b", noise, 90.0, **axis)
    assert sorted(len(rows(found)) for found in overviews(load_runs(tmp_path))) == [2, 2]


def test_many_that_lack_the_same_are_not_all_named(record: Record, tmp_path: Path) -> None:
    for method in "abcdef":
        for seed in (0, 1) if method in "ab" else (0,):
            put(record, method, 0.2, 100, seed=seed)
        put(record, method, 0.4, 100, seed=0)
        if method == "f":
            put(record, method, 0.6, 100, seed=0)
            put(record, method, 0.6, 100, seed=1)
    (found,) = overviews(load_runs(tmp_path))
    assert found.missing == [
        "at 0.2: 1 of 2 seeds of all but a, b",
        "at 0.4: 1 of 2 seeds of all",
        "at 0.6: all but f",
    ]
