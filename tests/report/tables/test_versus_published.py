"""Published results next to ours: what is compared with what."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncbench import UserError, load_runs
from ncbench.report import write_report
from ncbench.report.pages.formats import format_published
from ncbench.report.tables import versus_published
from ncbench.report.tables.leaderboard import leaderboards
from ncbench.report.tables.published import Published, read_published
from ncbench.report.tables.versus_published import (
    COLUMNS,
    NUMERIC_COLUMNS,
    ComparedResult,
    PublishedTable,
    published_tables,
)

Record = Callable[..., Path]
SIZES = {"embed": 1024, "similarity": 256, "word": 300}
L2RM = {"dataset": "f30k", "method": "l2rm", "backbone": "sgraf", "noise": 0.4, "sizes": SIZES}


def compared(tables: list[PublishedTable]) -> list[ComparedResult]:
    return [line for table in tables for line in table.lines if line.ours]


def unfold(folder: Path, rsum: float) -> None:
    """Give a record scores on all test images in addition to those on folds."""
    path = folder / "result.json"
    content = json.loads(path.read_text())
    content["metrics"]["test_unfolded"] = {**content["metrics"]["test"], "rsum": rsum}
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(("dataset", "count"), [("f30k", 314), ("coco", 423), ("cc152k", 78)])
def test_all_that_is_published_is_there_without_runs(dataset: str, count: int) -> None:
    tables = published_tables(dataset, None)
    lines = [line for table in tables for line in table.lines]
    assert len(lines) == count
    assert {id_of(line.published) for line in lines} == {id_of(r) for r in read_published() if r.dataset == dataset}
    for line in lines:
        assert (line.ours, line.difference) == (None, None)
        assert line.cells()[-4:] == ["-"] * 4
        assert len(line.cells()) == len(COLUMNS)
    assert set(NUMERIC_COLUMNS) < set(COLUMNS)


def id_of(row: Published) -> tuple[object, ...]:
    return (*row.recalls, row.rsum, row.method, row.source, row.noise, row.backbone, row.evaluation)


@pytest.mark.parametrize("dataset", ["f30k", "coco", "cc152k"])
def test_units_evaluations_and_ratios_are_never_in_one_table(dataset: str) -> None:
    tables = published_tables(dataset, None)
    assert len({(t.evaluation, t.noise, t.unit) for t in tables}) == len({t.title for t in tables}) == len(tables)
    for table in tables:
        for line in table.lines:
            row = line.published
            assert (row.dataset, row.evaluation, row.noise, row.unit) == (
                table.dataset, table.evaluation, table.noise, table.unit,
            )  # fmt: skip
        sums = [line.published.rsum for line in table.lines]
        assert sums == sorted(sums, reverse=True)


def test_titles_and_their_order() -> None:
    assert [table.title for table in published_tables("f30k", None)][:6] == [
        "f30k, test: clean pairs",
        "f30k, test: noise 0.2 (unit: images)",
        "f30k, test: noise 0.2 (unit: captions)",
        "f30k, test: noise 0.2 (unit: unknown)",
        "f30k, test: noise 0.4 (unit: images)",
        "f30k, test: noise 0.4 (unit: unknown)",
    ]
    assert [table.title for table in published_tables("cc152k", None)] == ["cc152k, test: natural noise"]
    evaluations = [table.evaluation for table in published_tables("coco", None)]
    assert evaluations == sorted(evaluations)


def test_mean_and_difference(record: Record, tmp_path: Path) -> None:
    per_seed = [(70.0, 90.0, 95.0, 50.0, 80.0, 88.0), (74.0, 91.0, 95.0, 52.0, 80.0, 88.5), (60, 80, 90, 40, 70, 80)]
    for seed, scores in enumerate(per_seed):
        record(*scores, seed=seed, **L2RM)
    sums = [sum(scores) for scores in per_seed]
    mean = sum(sums) / 3
    lines = compared(published_tables("f30k", load_runs(tmp_path)))
    # UCPM states the backbone, IN2R does not.
    (line,) = lines
    assert line.published.source == "UCPM (IEEE TIP 2025, tables of the 2024 repository), Table I"
    assert line.published.rsum == 490.5
    assert line.ours is not None
    assert line.ours.rsum == pytest.approx(mean)
    assert line.ours.std == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in sums) / 2))
    assert line.difference == pytest.approx(mean - 490.5)
    assert dict(zip(COLUMNS, line.cells(), strict=True)) == {
        "method": "l2rm",
        "backbone": "sgraf",
        "i2t R@1, 5, 10": "75.8 93.2 96.9",
        "t2i R@1, 5, 10": "56.3 81.0 87.3",
        "rSum": "490.5",
        "source": line.published.source,
        "networks": "2",
        "flags": "-",
        "our rSum": f"{mean:.1f} ± {line.ours.std:.1f}",
        "seeds": "3",
        "our runs": "shuffle-images, budget 4",
        "difference": f"{mean - 490.5:+.1f}",
    }


def test_one_seed_has_no_deviation(record: Record, tmp_path: Path) -> None:
    record(**L2RM)
    (line,) = compared(published_tables("f30k", load_runs(tmp_path)))
    assert line.cells()[-4:] == ["123.0", "1", "shuffle-images, budget 4", "-367.5"]
    assert line.facts()["our_rsum_std"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "rcl2"},
        {"backbone": "sgr"},
        {"noise": 0.5},
        {"unit": "captions", "protocol": "shuffle-captions"},
        {"dataset": "coco"},
        {"told_truth": True},
    ],
    ids=str,
)
def test_what_is_not_the_same_is_not_compared(changes: dict[str, Any], record: Record, tmp_path: Path) -> None:
    record(**{**L2RM, **changes})
    assert compared(published_tables("f30k", load_runs(tmp_path))) == []


@pytest.mark.parametrize(
    ("unit", "sources"),
    [
        ("images", ["DECL (ACM MM 2022)", "UCPM (IEEE TIP 2025, tables of the 2024 repository)"]),
        ("captions", ["DECL repository (update of 2022-12-20)"]),
    ],
)
def test_only_the_same_unit_is_compared(unit: str, sources: list[str], record: Record, tmp_path: Path) -> None:
    axes = {"dataset": "f30k", "method": "decl", "backbone": "sgraf", "noise": 0.2, "sizes": SIZES}
    record(**axes, unit=unit, protocol=f"shuffle-{unit}")
    lines = compared(published_tables("f30k", load_runs(tmp_path)))
    assert [line.published.paper for line in lines] == sources
    assert {line.published.unit for line in lines} == {unit}


@pytest.mark.parametrize(
    ("backbone", "published"),
    [
        ("sgr", {("sgr", "sgr")}),
        ("saf", {("saf", "saf")}),
        ("scan-t2i-lse", {("scan", "")}),
        ("scan-i2t-mean", {("scan", "")}),
        ("vse", set()),
    ],
)
def test_triplet_is_compared_with_plain_backbones(
    backbone: str, published: set[tuple[str, str]], record: Record, tmp_path: Path
) -> None:
    record(dataset="f30k", backbone=backbone, noise=0.2, sizes=SIZES)
    lines = compared(published_tables("f30k", load_runs(tmp_path)))
    assert {(line.published.method, line.published.backbone) for line in lines} == published
    for line in lines:
        assert line.cells()[-2].startswith("scan-") == (backbone != line.published.backbone)


def test_clean_pairs_are_compared_whatever_the_unit(record: Record, tmp_path: Path) -> None:
    record(dataset="f30k", noise=0.0, protocol="clean", unit="clean", sizes=SIZES)
    lines = compared(published_tables("f30k", load_runs(tmp_path)))
    assert {(line.published.method, line.published.noise) for line in lines} == {("sgr", 0.0)}
    assert lines[0].cells()[-2] == "budget 4"


def test_natural_noise(record: Record, tmp_path: Path) -> None:
    axes = {"dataset": "cc152k", "protocol": "natural", "unit": "natural", "noise": 0.0, "sizes": SIZES}
    record(method="l2rm", **axes)
    record(method="ncr", backbone="sgraf", **axes)  # printed so, which is backbone_doubtful
    record(method="ncr", **{**axes, "noise": 0.2, "protocol": "shuffle-images", "unit": "images"})
    lines = compared(published_tables("cc152k", load_runs(tmp_path)))
    assert {(line.published.method, line.published.backbone) for line in lines} == {("l2rm", "sgr")}
    (backbone_doubtful,) = [
        line.cells()
        for table in published_tables("cc152k", None)
        for line in table.lines
        if line.published.method == "ncr" and line.published.backbone_doubtful
    ]
    assert backbone_doubtful[1] == "sgraf (doubtful)"


def test_folds_and_all_images_of_coco(record: Record, tmp_path: Path) -> None:
    axes = {"dataset": "coco", "noise": 0.0, "protocol": "clean", "unit": "clean", "sizes": SIZES}
    unfold(record(**axes), 77.0)
    lines = compared(published_tables("coco", load_runs(tmp_path)))
    found = {(line.published.evaluation, line.ours.rsum) for line in lines if line.ours}
    assert found == {("coco-1k-5fold", 123.0), ("coco-5k", 77.0)}


def test_a_test_split_without_folds_is_neither(record: Record, tmp_path: Path) -> None:
    record(dataset="coco", noise=0.0, protocol="clean", unit="clean", sizes=SIZES)
    assert load_runs(tmp_path)["rsum_unfolded"].isna().all()
    assert compared(published_tables("coco", load_runs(tmp_path))) == []


def test_settings_budgets_and_sizes_have_lines_of_their_own(record: Record, tmp_path: Path) -> None:
    record(**L2RM, settings={"lr": 0.1})
    record(**L2RM, settings={"lr": 0.2})
    record(**L2RM, settings={"lr": 0.2}, seed=1)
    record(**{**L2RM, "sizes": {"embed": 64}}, settings={"lr": 0.2}, budget=9.0, told_clean=150)
    record(**L2RM, settings={"lr": 0.2}, budget=40.0, budget_unit="own-epochs")
    lines = compared(published_tables("f30k", load_runs(tmp_path)))
    assert sorted((line.cells()[-3], line.cells()[-2]) for line in lines) == [
        ("1", "l2rm (lr=0.1), shuffle-images, budget 4"),
        ("1", "l2rm (lr=0.2), shuffle-images, budget 9, embed=64, given 150 clean pairs"),
        ("1", "l2rm (lr=0.2, 40 own epochs), shuffle-images, budget 40 own epochs"),
        ("2", "l2rm (lr=0.2), shuffle-images, budget 4"),
    ]


def test_flags_are_shown(record: Record) -> None:
    shown = [line.cells() for table in published_tables("f30k", None) for line in table.lines]
    flagged = Counter(cells[COLUMNS.index("flags")] for cells in shown)
    expected = Counter(row.flags or "-" for row in read_published() if row.dataset == "f30k")
    assert flagged == expected
    assert flagged["SUM-MISMATCH"] > 5


@pytest.mark.parametrize("dataset", ["scenes", "F30K", ""])
def test_nothing_published(dataset: str) -> None:
    with pytest.raises(UserError) as caught:
        published_tables(dataset, None)
    assert f"no published results for dataset {dataset!r}" in str(caught.value)
    assert str(caught.value).endswith("f30k, coco, cc152k")


def test_pages_have_a_section_where_there_are_numbers(record: Record, tmp_path: Path) -> None:
    record(**L2RM)
    record(dataset="toy")
    write_report(leaderboards(load_runs(tmp_path)), tmp_path / "pages")
    page, toy = ((tmp_path / "pages" / name / "README.md").read_text() for name in ("f30k", "toy"))
    assert "Published and" not in toy
    before, after = page.split("\n## Published and reproduced results\n")
    assert "### " not in before
    titles = [line.removeprefix("### ") for line in after.splitlines() if line.startswith("#")]
    assert titles == [table.title for table in published_tables("f30k", None)]
    assert sum(line.startswith("| ") for line in after.splitlines()) == 314 + 2 * len(titles)
    assert "| 123.0 | 1 | shuffle-images, budget 4 | -367.5 |\n" in after
    for section in after.split("\n### ")[1:]:
        assert len({line.count("|") for line in section.splitlines() if line.startswith("|")}) == 1


HOSTILE = r"<script>|x_&%[link](x)*b*`c`"


def test_hostile_names_in_the_file_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Published(HOSTILE, HOSTILE, "f30k", "test", 0.4, (1.0,) * 6, 6.0, HOSTILE, HOSTILE, HOSTILE, "images")
    monkeypatch.setattr(versus_published, "read_published", lambda: [row])
    tables = published_tables("f30k", None)
    markdown = format_published(tables, "markdown")
    assert markdown.splitlines()[-1].startswith(r"| &lt;script>\|x_&amp;%\[link\](x)\*b\*\`c\` | ")
    assert "<script" not in markdown
    latex = format_published(tables, "latex")
    (line,) = [line for line in latex.splitlines() if "script" in line]
    assert line.startswith(r"\textless{}script\textgreater{}\textbar{}x\_\&\%{[}link{]}(x){*}b{*}{`}c{`} & ")
