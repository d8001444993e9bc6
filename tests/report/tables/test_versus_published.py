"""Published results next to ours: what is compared with what."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ncbench import UserError, load_runs
from ncbench.report import write_report
from ncbench.report.pages.formats import format_published
from ncbench.report.tables import versus_published
from ncbench.report.tables.leaderboard import leaderboards
from ncbench.report.tables.published import Published, read_published
from ncbench.report.tables.published_filters import Filters
from ncbench.report.tables.published_summary import published_summaries
from ncbench.report.tables.versus_published import (
    BRIEF_COLUMNS,
    COLUMNS,
    NUMERIC_COLUMNS,
    ComparedResult,
    PublishedTable,
    merge,
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


@pytest.mark.parametrize(("dataset", "count"), [("f30k", 248), ("coco", 348), ("cc152k", 45)])
def test_all_that_is_published_is_there_without_runs(dataset: str, count: int) -> None:
    tables = published_tables(dataset, None)
    lines = [line for table in tables for line in table.lines]
    assert len(lines) == count
    printed = {(result_of(row), row.source) for row in rows_of(dataset)}
    kept = {(result_of(line.published), source) for line in lines for source in line.sources}
    assert kept == printed  # merged rows keep all their sources
    for line in lines:
        assert (line.ours, line.difference) == (None, None)
    for table in tables:
        assert {len(cells) for cells in table.cells()} == {len(COLUMNS)}
    assert set(NUMERIC_COLUMNS) | set(BRIEF_COLUMNS) <= set(COLUMNS)


def result_of(row: Published) -> tuple[object, ...]:
    return row.recalls, row.rsum, row.method, row.noise, row.evaluation


def rows_of(dataset: str) -> list[Published]:
    return [row for row in read_published() if row.dataset == dataset]


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


def own_epochs(record: Record, *scores: float, **axes: Any) -> None:
    record(*scores, **{**L2RM, "budget": 40.0, "budget_unit": "own-epochs", **axes})


def test_mean_and_difference(record: Record, tmp_path: Path) -> None:
    per_seed = [(70.0, 90.0, 95.0, 50.0, 80.0, 88.0), (74.0, 91.0, 95.0, 52.0, 80.0, 88.5), (60, 80, 90, 40, 70, 80)]
    for seed, scores in enumerate(per_seed):
        own_epochs(record, *scores, seed=seed)
    sums = [sum(scores) for scores in per_seed]
    mean = sum(sums) / 3
    tables = published_tables("f30k", load_runs(tmp_path))
    (line,) = compared(tables)
    # IN2R prints the same, without the backbone.
    assert [source.partition(" (")[0] for source in line.sources] == ["IN2R", "UCPM"]
    assert line.published.rsum == 490.5
    assert line.ours is not None
    assert line.ours.rsum == pytest.approx(mean)
    assert line.ours.std == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in sums) / 2))
    assert line.unlike == []
    assert line.difference == pytest.approx(mean - 490.5)
    (table,) = [table for table in tables if line in table.lines]
    cells = dict(zip(COLUMNS, table.cells()[table.lines.index(line)], strict=True))
    notes = dict(note.split(": ", 1) for note in table.footnotes())
    assert [notes[number] for number in cells.pop("sources").split(", ")] == line.sources
    caveats = [notes[letter] for letter in cells.pop("caveats").split(", ")]
    assert caveats == line.caveats
    assert "our runs: l2rm (40 own epochs), shuffle-images, budget 40 own epochs" in caveats
    assert cells == {
        "method": "l2rm",
        "backbone": "sgraf",
        "networks": "2",
        "rSum": "490.5",
        "i2t R@1, 5, 10": "75.8 93.2 96.9",
        "t2i R@1, 5, 10": "56.3 81.0 87.3",
        "our rSum": f"{mean:.1f} ± {line.ours.std:.1f}",
        "seeds": "3",
        "difference": f"{mean - 490.5:+.1f}",
    }


def test_one_seed_has_no_deviation(record: Record, tmp_path: Path) -> None:
    own_epochs(record)
    (line,) = compared(published_tables("f30k", load_runs(tmp_path)))
    assert line.facts()["our_rsum_std"] is None
    assert line.difference == pytest.approx(123.0 - 490.5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"budget": 4.0, "budget_unit": "epochs"}, "our budget is compute-matched, papers count epochs"),
        ({"sizes": {"embed": 64, "similarity": 256, "word": 300}}, "our networks have other sizes"),
        ({"method": "ncr", "backbone": "sgr", "noise": 0.2}, "the published result averages 1 networks, ours 2"),
    ],
    ids=["budget", "sizes", "networks"],
)
def test_no_difference_under_unlike_conditions(
    changes: dict[str, Any], reason: str, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason.startswith("the published"):
        row = next(row for row in rows_of("f30k") if (row.method, row.unit, row.noise) == ("ncr", "images", 0.2))
        changed = type(row)(**{**vars(row), "nets": 1})
        monkeypatch.setattr(versus_published, "read_published", lambda: [changed])
    own_epochs(record, **changes)
    (line,) = compared(published_tables("f30k", load_runs(tmp_path)))
    assert line.unlike == [reason]
    assert line.difference is None
    assert f"not compared: {reason}" in line.caveats
    assert line.facts()["unlike"] == reason


def test_unknown_units_and_networks_are_not_compared(record: Record, tmp_path: Path) -> None:
    own_epochs(record)
    (one,) = compared(published_tables("f30k", load_runs(tmp_path)))
    unknown = replace(one, published=replace(one.published, unit="unknown", nets=None))
    assert unknown.difference is None
    assert [reason.split(" ", 2)[1] for reason in unknown.unlike] == ["noise", "many"]


def test_rates_of_dropout_are_no_sizes(record: Record, tmp_path: Path) -> None:
    own_epochs(record, sizes={**SIZES, "dropout": 0.1})
    (line,) = compared(published_tables("f30k", load_runs(tmp_path)))
    assert line.unlike == []


def printed(method: str = "m", backbone: str = "sgr", paper: str = "P", **changes: Any) -> Published:
    row = Published(method, backbone, "f30k", "test", 0.4, (1.0,) * 6, 6.0, paper, "Table 1", "", "images")
    return replace(row, **changes)


def test_duplicates_are_merged_with_their_sources_and_notes() -> None:
    rows = [
        printed(paper="A", notes="reprint"),
        printed(paper="B", backbone="", nets=2),
        printed(paper="C", rsum=7.0, notes="SUSPECT: the sum"),
        printed(paper="D", recalls=(2.0,) * 6),
        printed("other", paper="E"),
    ]
    merged = merge(rows)
    assert [(one.published.method, one.published.rsum, list(one.sources)) for one in merged] == [
        ("m", 7.0, ["C, Table 1"]),
        ("m", 6.0, ["B, Table 1", "A, Table 1"]),
        ("m", 6.0, ["D, Table 1"]),
        ("other", 6.0, ["E, Table 1"]),
    ]
    both = merged[1]
    assert (both.published.backbone, both.published.nets, list(both.notes)) == ("sgr", 2, ["reprint (A, Table 1)"])


def test_backbones_that_differ_are_not_merged() -> None:
    merged = merge([printed(paper="A"), printed(paper="B", backbone="saf"), printed(paper="C", backbone="")])
    assert sorted((one.published.backbone, *one.sources) for one in merged) == [
        ("", "C, Table 1"),
        ("saf", "B, Table 1"),
        ("sgr", "A, Table 1"),
    ]


@pytest.mark.parametrize(
    ("filters", "check"),
    [
        (Filters(noises=[0.4]), lambda row: row.noise == 0.4),
        (Filters(methods=["L2RM", "rcl"]), lambda row: row.method in ("l2rm", "rcl")),
        (Filters(backbones=["sgr"]), lambda row: row.backbone == "sgr"),
        (Filters(backbones=["not stated"]), lambda row: row.backbone == ""),
        (Filters(papers=["neurips"]), lambda row: "NeurIPS" in row.paper),
        (Filters([0.2], ["ncr"], ["sgr"], ["DECL"]), lambda row: (row.noise, row.method) == (0.2, "ncr")),
    ],
    ids=["noise", "methods", "backbone", "not stated", "paper", "all"],
)
def test_filters(filters: Filters, check: Callable[[Published], bool]) -> None:
    found = [line for table in published_tables("f30k", None, filters) for line in table.lines]
    everything = [line for table in published_tables("f30k", None) for line in table.lines]
    assert 0 < len(found) < len(everything)
    assert all(check(line.published) for line in found)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (Filters(noises=[0.3]), "--noise has 0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8"),
        (Filters(methods=["l3rm"]), "--method has bicro, "),
        (Filters(backbones=["x"]), "--backbone has clip-vit-b32, "),
        (Filters(papers=["zzz"]), "--paper has CRCL repository"),
        (Filters([0.7], ["l2rm"]), "each alone admits some, but not together"),
    ],
    ids=str,
)
def test_filters_that_admit_nothing(filters: Filters, message: str) -> None:
    with pytest.raises(UserError) as caught:
        published_tables("f30k", None, filters)
    assert f"no published result on f30k passes the filters; {message}" in str(caught.value)


def test_summaries_have_ranges_without_misprints(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        printed(paper="A", rsum=300.0),
        printed(paper="B", rsum=310.0),
        printed(paper="C", rsum=990.0, notes="SUM-MISMATCH: printed 990"),
        printed(noise=0.0, unit="clean", rsum=400.0),
        printed("clean only", noise=0.0, unit="clean", rsum=500.0),
        printed("z", rsum=350.0),
        printed("z", noise=0.2, rsum=380.0),
    ]
    monkeypatch.setattr(versus_published, "read_published", lambda: rows)
    (found,) = published_summaries(published_tables("f30k", None))
    assert found.title == "f30k, test, noise unit: images"
    assert found.columns == ["method", "backbone", "clean", "0.2", "0.4"]
    assert found.rows == [
        ["z", "sgr", "-", "380.0", "350.0"],
        ["m", "sgr", "400.0", "-", "300.0\N{EN DASH}310.0"],
    ]


@pytest.mark.parametrize("dataset", ["f30k", "coco", "cc152k"])
def test_summaries_never_mix_units(dataset: str) -> None:
    tables = published_tables(dataset, None)
    found = published_summaries(tables)
    units = {(t.evaluation, t.unit) for t in tables if t.unit not in ("clean",)}
    assert len({one.title for one in found}) == len(found) == len(units)
    assert sum(len(one.rows) for one in found) < 100


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
        ("images", ["DECL (ACM MM 2022)"]),
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
        assert line.ours is not None
        assert line.ours.runs.startswith("scan-") == (backbone != line.published.backbone)


def test_clean_pairs_are_compared_whatever_the_unit(record: Record, tmp_path: Path) -> None:
    record(dataset="f30k", noise=0.0, protocol="clean", unit="clean", sizes=SIZES)
    lines = compared(published_tables("f30k", load_runs(tmp_path)))
    assert {(line.published.method, line.published.noise) for line in lines} == {("sgr", 0.0)}
    assert {line.ours.runs for line in lines if line.ours} == {"budget 4"}


def test_natural_noise(record: Record, tmp_path: Path) -> None:
    axes = {"dataset": "cc152k", "protocol": "natural", "unit": "natural", "noise": 0.0, "sizes": SIZES}
    record(method="l2rm", **axes)
    record(method="ncr", backbone="sgraf", **axes)  # printed so, which is backbone_doubtful
    record(method="ncr", **{**axes, "noise": 0.2, "protocol": "shuffle-images", "unit": "images"})
    lines = compared(published_tables("cc152k", load_runs(tmp_path)))
    assert {(line.published.method, line.published.backbone) for line in lines} == {("l2rm", "sgr")}
    doubtful = [
        line
        for table in published_tables("cc152k", None)
        for line in table.lines
        if line.published.method == "ncr" and line.published.backbone_doubtful
    ]
    assert [any(note.startswith("backbone doubtful") for note in line.caveats) for line in doubtful] == [True]


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
    assert sorted((str(line.ours.seeds), line.ours.runs) for line in lines if line.ours) == [
        ("1", "l2rm (lr=0.1), shuffle-images, budget 4"),
        ("1", "l2rm (lr=0.2), shuffle-images, budget 9, embed=64, given 150 clean pairs"),
        ("1", "l2rm (lr=0.2, 40 own epochs), shuffle-images, budget 40 own epochs"),
        ("2", "l2rm (lr=0.2), shuffle-images, budget 4"),
    ]


def test_notes_of_sources_are_never_cut() -> None:
    shown = {note for table in published_tables("f30k", None) for note in table.footnotes()}
    noted = [row for row in rows_of("f30k") if row.notes]
    assert len(noted) > 100
    for row in noted:
        assert any(row.notes in note for note in shown)
    for table in published_tables("f30k", None):
        letters = {letter for cells in table.cells() for letter in cells[-1].split(", ")} - {"-"}
        assert letters <= {note.partition(":")[0] for note in table.footnotes()}


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
    assert not (tmp_path / "pages" / "toy" / "published.md").exists()
    after = page.split("\n## Published and reproduced results\n")[1]
    tables = published_tables("f30k", None)
    titles = [line.removeprefix("### ") for line in after.splitlines() if line.startswith("### ")]
    assert titles == [f"{one.title}: rSum" for one in published_summaries(tables)]
    assert len(page.splitlines()) < 250
    assert "[published.md](published.md)" in after
    whole = (tmp_path / "pages" / "f30k" / "published.md").read_text()
    assert [line.removeprefix("## ") for line in whole.splitlines() if line.startswith("## ")] == [
        t.title for t in tables
    ]
    assert sum(line.startswith("| ") for line in whole.splitlines()) == 248 + 2 * len(tables)
    for section in whole.split("\n## ")[1:]:
        assert len({line.count("|") for line in section.splitlines() if line.startswith("|")}) == 1


HOSTILE = r"<script>|x_&%[link](x)*b*`c`"


def test_hostile_names_in_the_file_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Published(HOSTILE, HOSTILE, "f30k", "test", 0.4, (1.0,) * 6, 6.0, HOSTILE, HOSTILE, HOSTILE, "images")
    monkeypatch.setattr(versus_published, "read_published", lambda: [row])
    tables = published_tables("f30k", None)
    markdown = format_published(tables, "markdown")
    row = next(line for line in markdown.splitlines() if "script" in line)
    assert row.startswith(r"| &lt;script>\|x_&amp;%\[link\](x)\*b\*\`c\` | ")
    assert "<script" not in markdown
    latex = format_published(tables, "latex")
    (line,) = [line for line in latex.splitlines() if line.startswith(r"\textless{}script")]
    assert line.startswith(r"\textless{}script\textgreater{}\textbar{}x\_\&\%{[}link{]}(x){*}b{*}{`}c{`} & ")
