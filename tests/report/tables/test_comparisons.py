"""Comparisons: how runs are grouped, averaged and worded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ncbench.records.table import load_runs
from ncbench.report.tables.comparisons import AXES, COLUMNS, RECALLS, Comparison, comparisons, scores

Record = Callable[..., Path]


def rows(table: Comparison) -> list[dict[Any, Any]]:
    return table.rows.to_dict(orient="records")


def flat(value: float) -> tuple[float, ...]:
    """Return six recalls that sum to `value`."""
    return (value / 6,) * 6


def test_mean_and_deviation_over_seeds(record: Record, tmp_path: Path) -> None:
    per_seed = [
        (1.0, 20.0, 33.5, 4.25, 50.0, 61.0),
        (3.0, 22.0, 30.0, 8.0, 51.5, 60.0),
        (2.5, 27.0, 36.0, 3.0, 44.0, 70.0),
    ]
    for seed, values in enumerate(per_seed):
        record(*values, seed=seed, seconds=10.0 * seed, used=0.5 + seed / 10, peaks={"host": seed * 2**21})
    (table,) = comparisons(load_runs(tmp_path))
    (row,) = rows(table)
    for place, column in enumerate(RECALLS):
        assert row[column] == pytest.approx(sum(values[place] for values in per_seed) / 3, rel=1e-12)
    sums = [sum(values) for values in per_seed]
    mean = sum(sums) / 3
    assert row["rsum"] == pytest.approx(mean, rel=1e-12)
    assert row["rsum_std"] == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in sums) / 2), rel=1e-9)
    assert (row["seeds"], row["seconds"], row["peak_bytes"]) == (3, 10.0, 2**21)
    assert row["used"] == pytest.approx(4 * 0.6)


@pytest.mark.parametrize(
    ("axis", "value"),
    [
        ("dataset", "other"),
        ("backbone", "vse"),
        ("budget", 8.0),
        ("budget_unit", "flops"),
        ("protocol", "shuffle-captions"),
        ("unit", "captions"),
        ("noise", 0.6),
    ],
)
def test_runs_that_differ_in_an_axis_are_not_compared(axis: str, value: object, record: Record, tmp_path: Path) -> None:
    record()
    record(method="l2rm")
    record(**{axis: value})
    tables = comparisons(load_runs(tmp_path))
    assert sorted(len(table.rows) for table in tables) == [1, 2]
    (single,) = [table for table in tables if len(table.rows) == 1]
    assert single.key[{"budget": "allowance"}.get(axis, axis)] == value
    assert set(single.key) == set(AXES)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sizes", {"embed": 512}),
        ("evaluations", 1),
        ("dataset_version", "2"),
        ("dataset_digest", "e" * 64),
        ("protocol_version", "2"),
        ("settings", {"lr": 1.0, "batch_size": 8}),
        ("precision", "bf16"),
    ],
)
def test_only_seeds_are_averaged(field: str, value: object, record: Record, tmp_path: Path) -> None:
    record(*flat(100.0))
    record(*flat(300.0), **{field: value})
    found = [row for table in comparisons(load_runs(tmp_path)) for row in rows(table)]
    assert sorted(round(row["rsum"], 6) for row in found) == [100.0, 300.0]


def test_precisions_have_tables_of_their_own(record: Record, tmp_path: Path) -> None:
    for precision, value in (("float32", 100.0), ("tf32", 200.0), ("bf16", 300.0)):
        record(*flat(value), precision=precision)
        record(*flat(value + 1), precision=precision, seed=1)
    found = {table.title: rows(table) for table in comparisons(load_runs(tmp_path))}
    assert {title: (len(part), round(part[0]["rsum"], 6), part[0]["seeds"]) for title, part in found.items()} == {
        f"toy: shuffle-images 0.4 (unit: images), sgr, budget 4, precision={precision}": (1, value + 0.5, 2)
        for precision, value in (("float32", 100.0), ("tf32", 200.0), ("bf16", 300.0))
    }


def test_precision_is_not_named_where_all_have_one(record: Record, tmp_path: Path) -> None:
    record(precision="bf16")
    record(precision="bf16", method="l2rm")
    (table,) = comparisons(load_runs(tmp_path))
    assert table.title == "toy: shuffle-images 0.4 (unit: images), sgr, budget 4"


def test_noise_units_are_never_mixed(record: Record, tmp_path: Path) -> None:
    path = "file:/published/noise.npy"
    record(protocol=path, unit="images")
    record(protocol=path, unit="captions", method="l2rm")
    captions, images = comparisons(load_runs(tmp_path))
    assert [row["variant"] for row in rows(captions)] == ["l2rm"]
    assert [row["variant"] for row in rows(images)] == ["triplet"]
    assert captions.title.startswith(f"toy: {path} 0.4 (unit: captions)")
    assert images.title.startswith(f"toy: {path} 0.4 (unit: images)")


def test_clean_runs_have_a_table_of_their_own(record: Record, tmp_path: Path) -> None:
    record(noise=0.0, protocol="clean", unit="clean")
    record()
    clean, noisy = comparisons(load_runs(tmp_path))
    assert clean.title == "toy: clean pairs, sgr, budget 4"
    assert noisy.title == "toy: shuffle-images 0.4 (unit: images), sgr, budget 4"


def test_order_of_tables_and_rows(record: Record, tmp_path: Path) -> None:
    for noise in (0.6, 0.2):
        record(*flat(60.0), noise=noise, method="b")
        record(*flat(60.0), noise=noise, method="a")
        record(*flat(66.0), noise=noise, method="c")
    tables = comparisons(load_runs(tmp_path))
    assert [table.key["noise"] for table in tables] == [0.2, 0.6]
    for table in tables:
        assert [row["variant"] for row in rows(table)] == ["c", "a", "b"]


def test_variants_have_rows_of_their_own(record: Record, tmp_path: Path) -> None:
    for seed in (0, 1):
        record(*flat(60.0 + seed), seed=seed, settings={"lr": 0.1})
        record(*flat(90.0 + seed), seed=seed, settings={"lr": 0.2})
    (table,) = comparisons(load_runs(tmp_path))
    found = [(row["variant"], round(row["rsum"], 6), row["seeds"]) for row in rows(table)]
    assert found == [("triplet (lr=0.2)", 90.5, 2), ("triplet (lr=0.1)", 60.5, 2)]


def test_cells(record: Record, tmp_path: Path) -> None:
    big = {"host": 1500 * 2**20, "device": None}
    record(1.0, 2.04, 3.06, 4.0, 50.0, 100.0, used=0.2504, seconds=1234.5, peaks=big)
    (table,) = comparisons(load_runs(tmp_path))
    ((cells),) = table.cells()
    expected = [
        "triplet",
        "-",
        "1.0",
        "2.0",
        "3.1",
        "4.0",
        "50.0",
        "100.0",
        "160.1",
        "1.00",
        "1,500 MiB",
        "1,234 s",
        "-",
        "1",
    ]
    assert dict(zip(COLUMNS, cells, strict=True)) == dict(zip(COLUMNS, expected, strict=True))


def test_deviation_is_shown_with_two_seeds(record: Record, tmp_path: Path) -> None:
    record(*flat(60.0), seed=0)
    record(*flat(62.0), seed=1)
    (table,) = comparisons(load_runs(tmp_path))
    cells = dict(zip(COLUMNS, table.cells()[0], strict=True))
    assert (cells["rsum"], cells["seeds"]) == ("61.0 ± 1.4", "2")


def test_missing_measurements_are_dashes(record: Record, tmp_path: Path) -> None:
    record(seconds=None)
    record(method="l2rm", seconds=12.0)
    (table,) = comparisons(load_runs(tmp_path))
    cells = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in table.cells()}
    assert (cells["triplet"]["seconds"], cells["triplet"]["peak_bytes"]) == ("-", "-")
    assert (cells["l2rm"]["seconds"], cells["l2rm"]["peak_bytes"]) == ("12 s", "1 MiB")


def test_missing_measurements_of_all_runs(record: Record, tmp_path: Path) -> None:
    record(seconds=None)
    (table,) = comparisons(load_runs(tmp_path))
    assert [cell for row in table.cells() for cell in row].count("-") == 4


def test_measurements_of_the_seeds_that_have_them(record: Record, tmp_path: Path) -> None:
    record(seconds=None)
    record(seed=1, seconds=8.0)
    (table,) = comparisons(load_runs(tmp_path))
    assert rows(table)[0]["seconds"] == 8.0


def test_high_overhead_is_marked(record: Record, tmp_path: Path) -> None:
    record(method="a", seconds=100.0, outside={"transport": 15.0, "mixture": 5.0})
    record(method="b", seconds=100.0, outside={"transport": 21.0})
    record(method="c", seconds=100.0, outside={})
    record(method="d", seconds=100.0)
    (table,) = comparisons(load_runs(tmp_path))
    cells = {row[0]: dict(zip(COLUMNS, row, strict=True))["overhead"] for row in table.cells()}
    assert cells == {"a": "20%", "b": "21% (!)", "c": "0%", "d": "-"}


def test_best_is_the_largest(record: Record, tmp_path: Path) -> None:
    record(10.0, 20.0, 30.0, 1.0, 2.0, 3.0)
    record(9.0, 21.0, 30.0, 1.0, 2.0, 4.0, method="l2rm")
    (table,) = comparisons(load_runs(tmp_path))
    assert [table.best(column) for column in scores()] == [10.0, 21.0, 30.0, 1.0, 2.0, 4.0, 67.0]
    assert list(scores()) == [*RECALLS, "rsum"]


def test_references_come_last_and_are_never_the_best(record: Record, tmp_path: Path) -> None:
    record(*flat(600.0), method="oracle", told_truth=True)
    record(*flat(300.0), method="a", told_truth=False)
    record(*flat(500.0), method="upper", told_truth=True)
    record(*flat(400.0), method="b", told_truth=None)
    (table,) = comparisons(load_runs(tmp_path))
    assert [row["variant"] for row in rows(table)] == ["b", "a", "oracle", "upper"]
    assert [cells[0] for cells in table.cells()] == [
        "b",
        "a",
        "oracle (sees ground truth)",
        "upper (sees ground truth)",
    ]
    assert [cells[8] for cells in table.cells()] == ["400.0", "300.0", "600.0", "500.0"]
    assert table.best("rsum") == pytest.approx(400)
    assert table.best("i2t_r1") == pytest.approx(400 / 6)


def test_methods_given_clean_pairs_are_contestants_and_marked(record: Record, tmp_path: Path) -> None:
    record(*flat(300.0))
    record(*flat(400.0), method="mscn", told_clean=150, told_truth=False)
    record(*flat(410.0), method="mscn", told_clean=150, told_truth=False, seed=1)
    (table,) = comparisons(load_runs(tmp_path))
    assert [cells[0] for cells in table.cells()] == ["mscn (given 150 clean pairs)", "triplet"]
    assert table.best("rsum") == pytest.approx(405)


def test_references_are_averaged_over_seeds(record: Record, tmp_path: Path) -> None:
    for noise in (0.2, 0.4):
        for seed in (0, 1):
            record(*flat(500.0 + 2 * seed), method="oracle", told_truth=True, noise=noise, seed=seed)
    record(*flat(100.0), noise=0.4)
    alone, mixed = comparisons(load_runs(tmp_path))
    assert [(row["variant"], row["sees_truth"], row["seeds"]) for row in rows(alone)] == [("oracle", True, 2)]
    assert [row["variant"] for row in rows(mixed)] == ["triplet", "oracle"]
    assert mixed.cells()[1][8] == "501.0 ± 1.4"
    assert mixed.best("rsum") == pytest.approx(100)


def test_nothing_is_best_among_references(record: Record, tmp_path: Path) -> None:
    record(method="oracle", told_truth=True)
    (table,) = comparisons(load_runs(tmp_path))
    assert all(math.isnan(table.best(column)) for column in scores())


def test_title_has_short_numbers() -> None:
    key: dict[str, Any] = {
        **dict.fromkeys(AXES, ""),
        "dataset": "d",
        "backbone": "vse",
        "budget_unit": "epochs",
        "allowance": 12.5,
        "protocol": "p",
        "unit": "images",
        "noise": 0.2,
    }
    table = Comparison(key, rows=None, runs=None)  # type: ignore[arg-type]
    assert table.title == "d: p 0.2 (unit: images), vse, budget 12.5"
    assert replace(table, key={**key, "noise": 0.0}).title == "d: clean pairs, vse, budget 12.5"
    assert replace(table, key={**key, "budget_unit": "seconds"}).title.endswith("vse, budget 12.5 s")
    own = {**key, "budget_unit": "own-epochs", "allowance": 0.0}
    assert replace(table, key=own).title == "d: p 0.2 (unit: images), vse, own epochs, not compute-matched"


def test_methods_with_own_epochs_share_a_table_and_show_their_number(record: Record, tmp_path: Path) -> None:
    record(method="l2rm", budget=40.0, budget_unit="own-epochs")
    record(method="ncr", budget=45.0, budget_unit="own-epochs")
    record(method="ncr", budget=45.0)
    apart, own = sorted(comparisons(load_runs(tmp_path)), key=lambda table: len(table.rows))
    assert list(own.rows["variant"]) == ["l2rm (40 own epochs)", "ncr (45 own epochs)"]
    assert own.key["allowance"] == 0
    assert list(apart.rows["variant"]) == ["ncr"]
