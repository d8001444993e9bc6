"""Markdown pages and whole reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ncbench import UserError
from ncbench.records.table import load_runs
from ncbench.report import write_report
from ncbench.report.figures.style import Figure
from ncbench.report.pages.markdown import page
from ncbench.report.tables.comparisons import COLUMNS, COSTS, RESULTS, comparisons
from ncbench.report.tables.leaderboard import Leaderboard, leaderboards
from ncbench.report.tables.overview import overviews

Record = Callable[..., Path]


def board(name: str, frame: pd.DataFrame) -> Leaderboard:
    return Leaderboard(name, frame, overviews(frame), comparisons(frame))


def make(folder: Path) -> str:
    frame = load_runs(folder)
    return page(board("toy", frame), [Figure("rSum against noise ratio", "figures/rsum.svg")])


def rows_of(text: str, width: int) -> list[list[str]]:
    """Return the body cells of all tables of a page with so many columns."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| ")
    ]
    return [row for row in rows if len(row) == width and row[0] not in ("method", "---", "noise")]


def cells(text: str) -> list[list[str]]:
    """Return the body cells of all results of a page: method, recalls, rSum, seeds."""
    return [[row[0], *row[3:9], row[2], row[9]] for row in rows_of(text, len(RESULTS))]


def test_a_whole_page(record: Record, tmp_path: Path) -> None:
    record(10.0, 20.0, 30.0, 11.0, 21.0, 31.0)
    text = make(tmp_path)
    assert text.startswith(
        "# toy\n\n**At 40% noise (shuffle-images), use triplet (rSum 123.0); no other method was run.**\n\n"
        "| noise | best | rSum | is that sure? | lead over the next (95\N{NO-BREAK SPACE}% interval) |\n"
        "| --- | --- | ---: | --- | --- |\n"
        "| shuffle-images 0.4 | triplet | 123.0 | no other method | - |\n"
    )
    assert "\n![rSum against noise ratio](<figures/rsum.svg>)\n" in text
    assert (
        "## toy: shuffle-images 0.4 (unit: images), sgr, budget 4\n\n"
        "| method | rank | rSum | i2t R@1 | i2t R@5 | i2t R@10 | t2i R@1 | t2i R@5 | t2i R@10 | seeds |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| triplet | - | **123.0** | **10.0** | **20.0** | **30.0** | **11.0** | **21.0** | **31.0** | 1 |\n\n"
        "<details><summary>Budget, time and memory</summary>\n\n"
        "| method | budget used | training time | overhead | peak memory | seeds |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| triplet | 2.00 | 30\N{NO-BREAK SPACE}s | - | 1\N{NO-BREAK SPACE}MiB | 1 |\n\n"
        "</details>\n"
    ) in text
    # Explanations stand behind what they explain.
    assert text.index("## How to read the tables\n\nRecalls are percentages") > text.index("</details>")


def test_the_best_is_bold_and_only_the_best(record: Record, tmp_path: Path) -> None:
    record(10.0, 20.0, 30.0, 1.0, 2.0, 3.0, seconds=1.0)
    record(9.0, 21.0, 30.0, 1.0, 2.0, 4.0, method="l2rm", seconds=99.0)
    l2rm, triplet = cells(make(tmp_path))
    assert l2rm[:8] == ["l2rm", "<u>9.0</u>", "**21.0**", "**30.0**", "**1.0**", "**2.0**", "**4.0**", "**67.0**"]
    assert triplet[:8] == [
        "triplet",
        "**10.0**",
        "<u>20.0</u>",
        "**30.0**",
        "**1.0**",
        "**2.0**",
        "<u>3.0</u>",
        "<u>66.0</u>",
    ]
    for row in rows_of(make(tmp_path), len(COSTS)):
        assert not any("*" in cell for cell in row)  # neither time nor work is a score


def test_what_looks_the_same_as_the_best_is_bold_too(record: Record, tmp_path: Path) -> None:
    # Means over seeds may differ in the last bit for no reason but the order of adding up.
    record(10.0, 20.0, 30.0, 1.0, 2.0, 3.0)
    record(10.0 + 1e-13, 20.0, 30.0, 1.0, 2.0, 3.0, method="l2rm")
    assert [row[1] for row in cells(make(tmp_path))] == ["**10.0**", "**10.0**"]


def test_references_are_marked_and_never_bold(record: Record, tmp_path: Path) -> None:
    record(10.0, 20.0, 30.0, 1.0, 2.0, 3.0)
    record(90.0, 20.0, 91.0, 92.0, 93.0, 94.0, method="oracle", told_truth=True)
    triplet, oracle = cells(make(tmp_path))
    assert triplet[:8] == ["triplet", "**10.0**", "**20.0**", "**30.0**", "**1.0**", "**2.0**", "**3.0**", "**66.0**"]
    assert oracle[:8] == ["oracle (sees ground truth)", "90.0", "20.0", "91.0", "92.0", "93.0", "94.0", "480.0"]


def test_a_page_of_references_only(record: Record, tmp_path: Path) -> None:
    record(method="oracle", told_truth=True)
    (row,) = cells(make(tmp_path))
    assert row[:8] == ["oracle (sees ground truth)", "10.0", "20.0", "30.0", "11.0", "21.0", "31.0", "123.0"]
    written = write_report(leaderboards(load_runs(tmp_path)), tmp_path / "pages")
    assert "**" not in written[0].read_text().partition("nothing to choose from.**")[2]


def test_best_of_each_table(record: Record, tmp_path: Path) -> None:
    record(noise=0.2)
    record(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, noise=0.6)
    assert [row[7] for row in cells(make(tmp_path))] == ["**123.0**", "**6.0**"]


def test_bold_with_deviation(record: Record, tmp_path: Path) -> None:
    for seed in (0, 1):
        record(10.0 + seed, 20.0, 30.0, 1.0, 2.0, 3.0, seed=seed)
    assert cells(make(tmp_path))[0][7] == "**66.5\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.7**"


def test_dashes_are_not_bold(record: Record, tmp_path: Path) -> None:
    record(seconds=None)
    (row,) = rows_of(make(tmp_path), len(COSTS))
    assert row[2:5] == ["-", "-", "-"]


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("<script>|x", "&lt;script>\\|x"),
        ("*bold*", "\\*bold\\*"),
        ("`code`", "\\`code\\`"),
        ("back\\|slash", "back\\\\\\|slash"),
        ("[link](x)", "\\[link\\](x)"),
        ("&lt;", "&amp;lt;"),
    ],
)
def test_names_are_no_markup(name: str, escaped: str, record: Record, tmp_path: Path) -> None:
    record(method=name.replace("\\", "_"))  # a folder of its name is made
    frame = load_runs(tmp_path).assign(variant=name)
    (line,) = [
        line
        for line in page(Leaderboard("toy", frame, [], comparisons(frame))).splitlines()
        if line.startswith("| ") and line.endswith("| **31.0** | 1 |")
    ]
    assert line.startswith(f"| {escaped} | ")


def test_markup_in_dataset_and_protocol(record: Record, tmp_path: Path) -> None:
    record(protocol="file:<b>|.npy")
    text = page(board("<i>", load_runs(tmp_path)))
    assert "<b>" not in text
    assert "<i>" not in text
    assert text.startswith("# &lt;i>\n")


def test_units_have_tables_of_their_own(record: Record, tmp_path: Path) -> None:
    for unit in ("images", "captions"):
        record(protocol=f"shuffle-{unit}", unit=unit)
        record(protocol="file:x.npy", unit=unit, method="l2rm")
    text = make(tmp_path)
    assert text.count("\n## ") == 5
    for section in text.split("\n## ")[1:-1]:
        assert section.count("(unit: ") == 1
        assert len(cells(section)) == 1
    assert "not comparable" in text


def test_versions_of_the_harness_are_never_averaged(record: Record, tmp_path: Path) -> None:
    record(seed=0)
    record(seed=1)
    assert "harness 1" not in make(tmp_path)
    record(20.0, 20.0, 20.0, 20.0, 20.0, 20.0, seed=0, harness=2)
    text = make(tmp_path)
    titles = [line for line in text.splitlines() if line.startswith("## toy")]
    where = "## toy: shuffle-images 0.4 (unit: images), sgr, budget 4, harness"
    assert titles == [f"{where} 1", f"{where} 2"]
    assert [row[-1] for row in cells(text)] == ["2", "1"]
    assert "Under *harness 1*, methods saw" in text
    write_report([board("toy", load_runs(tmp_path))], tmp_path / "pages", html=True)
    assert "Under <em>harness 1</em>, methods saw" in (tmp_path / "pages/index.html").read_text()


@pytest.fixture
def varied(record: Record, tmp_path: Path) -> Path:
    """Return a folder of records of two datasets, two methods, two seeds, two ratios and clean pairs."""
    for dataset in ("toy", "other"):
        for method in ("triplet", "l2rm"):
            for seed in (0, 1):
                axes = {"dataset": dataset, "method": method, "seed": seed}
                record(10.0 + seed, 20.0, 30.0, 11.0, 21.0, 31.0, **axes, noise=0.0, protocol="clean", unit="clean")
                record(9.0 + seed, 20.0, 30.0, 11.0, 21.0, 31.0, **axes, noise=0.2)
                record(5.0 + seed, 20.0, 30.0, 11.0, 21.0, 31.0, **axes, noise=0.4)
    return tmp_path


FILES = ("README.md", "runs.csv", "figures/rsum.svg", "figures/rsum.png")


def test_files_of_a_report(varied: Path, tmp_path: Path) -> None:
    out = tmp_path / "pages"
    written = write_report(leaderboards(load_runs(varied)), out)
    assert written == [out / name / file for name in ("other", "toy") for file in FILES]
    assert sorted(path for path in out.rglob("*") if path.is_file()) == sorted(written)
    for name in ("other", "toy"):
        text = (out / name / "README.md").read_text()
        assert text.startswith(f"# {name}\n")
        assert "(<figures/rsum.svg>)" in text
        assert len(cells(text)) == 6
        assert ("other: " in text) == (name == "other")


def test_the_same_records_give_the_same_bytes(varied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_report(leaderboards(load_runs(varied)), tmp_path / "a")
    monkeypatch.setattr("time.time", lambda: 2e9)  # another day
    second = write_report(leaderboards(load_runs(varied)), tmp_path / "b")
    assert len(first) == len(second) == 2 * len(FILES)
    for a, b in zip(first, second, strict=True):
        assert a.name == b.name
        assert a.read_bytes() == b.read_bytes(), a.name


def test_runs_are_kept_as_they_were_read(varied: Path, tmp_path: Path) -> None:
    write_report(leaderboards(load_runs(varied)), tmp_path / "pages")
    frame = load_runs(varied)
    kept = pd.concat([pd.read_csv(tmp_path / "pages" / name / "runs.csv") for name in ("other", "toy")]).set_index("id")
    assert len(kept) == len(frame) > 4
    for column in ("method", "noise", "seed", "rsum", "i2t_r1", "sees_truth"):
        assert kept[column].to_dict() == frame.set_index("id")[column].to_dict()


def test_a_report_replaces_the_last(record: Record, tmp_path: Path) -> None:
    out = tmp_path / "pages"
    record()
    write_report(leaderboards(load_runs(tmp_path)), out)
    before = {path.name: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    record(90.0, 90.0, 90.0, 90.0, 90.0, 90.0, method="better")
    write_report(leaderboards(load_runs(tmp_path)), out)
    after = {path.name: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    assert len(before) == len(FILES)
    assert set(after) == set(before)
    assert all(after[name] != before[name] for name in before)
    assert b"better" in after["README.md"]


def test_a_page_that_loses_runs_is_not_replaced_in_silence(varied: Path, tmp_path: Path) -> None:
    out, said = tmp_path / "pages", list[str]()
    frame = load_runs(varied)
    write_report(leaderboards(frame), out, warn=said.append)
    write_report(leaderboards(frame), out, warn=said.append)
    assert said == []
    toy = frame[frame["dataset"] == "toy"]
    write_report(leaderboards(toy.iloc[2:]), out, warn=said.append)
    page = out / "toy" / "README.md"
    assert said == [f"{page} had 2 runs that this report lacks; for a page of other runs, choose another --out"]


@pytest.mark.parametrize("content", [b"", b"name\na\n", b"\xff\xfe", b'id,"a\n1'])
def test_any_table_of_runs_is_replaced(content: bytes, record: Record, tmp_path: Path) -> None:
    record()
    out = tmp_path / "pages"
    (out / "toy").mkdir(parents=True)
    (out / "toy" / "runs.csv").write_bytes(content)
    said = list[str]()
    write_report(leaderboards(load_runs(tmp_path)), out, warn=said.append)
    assert len(pd.read_csv(out / "toy" / "runs.csv")) == 1


def test_columns_of_a_page_are_those_of_the_tables(record: Record, tmp_path: Path) -> None:
    record()
    (row,) = cells(make(tmp_path))
    assert len(row) == len(RESULTS) - 1  # without the rank
    assert {*RESULTS, *COSTS} == set(COLUMNS)


def test_second_means_second_of_the_contestants(record: Record, tmp_path: Path) -> None:
    for name, score in (("a", 30.0), ("b", 20.0), ("c", 20.04), ("d", 10.0)):
        record(score, 40.0, 50.0, 1.0, 2.0, 3.0, method=name)
    record(25.0, 40.0, 50.0, 1.0, 2.0, 3.0, method="oracle", told_truth=True)
    assert {row[0]: row[1] for row in cells(make(tmp_path))} == {
        "a": "**30.0**",
        "b": "<u>20.0</u>",
        "c": "<u>20.0</u>",
        "d": "10.0",
        "oracle (sees ground truth)": "25.0",
    }


def test_an_overview_stands_before_the_tables(record: Record, tmp_path: Path) -> None:
    for noise in (0.0, 0.4):
        axes = {"protocol": "clean", "unit": "clean"} if noise == 0 else {}
        record(*[10.0 - 5 * noise] * 6, noise=noise, method="<b>|", **axes)
    record(noise=0.4)
    text = make(tmp_path)
    assert "## rSum over noise ratios: shuffle-images (unit: images), sgr, budget 4\n\n" in text
    assert text.index("## rSum over noise") < text.index("## toy: ")
    assert "| &lt;b>\\| | 60.0 | 48.0 | 48.0 | 80% |\n" in text
    assert "| triplet | - | 123.0 | 123.0 | - |\n" in text
    assert "\nMissing: at 0: triplet.\n" in text


def test_other_files_are_not_overwritten(record: Record, tmp_path: Path) -> None:
    record(dataset="other")
    record()
    out = tmp_path / "pages"
    mine = out / "toy" / "README.md"
    mine.parent.mkdir(parents=True)
    mine.write_text("my notes")
    with pytest.raises(UserError, match="not overwritten"):
        write_report(leaderboards(load_runs(tmp_path)), out)
    assert [path for path in out.rglob("*") if path.is_file()] == [mine]
    assert mine.read_text() == "my notes"
