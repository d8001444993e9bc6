"""Tables as CSV, LaTeX and markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from latex_text import check_latex

from ncbench import load_runs
from ncbench.report.pages.formats import format_comparisons, format_published
from ncbench.report.pages.latex import escape, latex_table
from ncbench.report.pages.markdown import page
from ncbench.report.tables.comparisons import AXES, comparisons
from ncbench.report.tables.leaderboard import Leaderboard
from ncbench.report.tables.versus_published import COLUMNS as PUBLISHED_COLUMNS
from ncbench.report.tables.versus_published import published_tables

Record = Callable[..., Path]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_of_comparisons(record: Record, tmp_path: Path) -> None:
    record(noise=0.2, seed=0)
    record(noise=0.2, seed=1, method='a"b,c')
    record(noise=0.6, seconds=None)
    tables = comparisons(load_runs(tmp_path))
    rows = rows_of(format_comparisons(tables, "csv"))
    assert [(row["noise"], row["variant"]) for row in rows] == [
        ("0.2", 'a"b,c'),
        ("0.2", "triplet"),
        ("0.6", "triplet"),
    ]
    assert list(rows[0])[: len(AXES)] == list(AXES)
    for row in rows:
        assert (float(row["rsum"]), float(row["t2i_r10"]), row["seeds"], row["unit"]) == (123.0, 31.0, "1", "images")
    assert [row["seconds"] for row in rows] == ["30.0", "30.0", ""]


def test_markdown_has_the_sections_of_the_page(record: Record, tmp_path: Path) -> None:
    record()
    record(noise=0.6)
    tables = comparisons(load_runs(tmp_path))
    text = format_comparisons(tables, "markdown")
    assert text.startswith("## toy: shuffle-images 0.4 (unit: images), sgr, budget 4\n\n| method |")
    titles = [
        line for line in page(Leaderboard("toy", load_runs(tmp_path), [], tables)).splitlines() if "## toy" in line
    ]
    assert titles == [line for line in text.splitlines() if line.startswith("## ")]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("<script>", r"\textless{}script\textgreater{}"),
        ("a|b", r"a\textbar{}b"),
        ("a_b & 5%", r"a\_b \& 5\%"),
        ("#1 $x^2$ ~", r"\#1 \$x\textasciicircum{}2\$ \textasciitilde{}"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("[x]*", "{[}x{]}{*}"),
        ("61.0 ± 1.4", r"61.0 $\pm$ 1.4"),
        ("a\nb\tc", "a b c"),
        ("é\x00", "U+00E9U+0000"),
        ("plain 0.5", "plain 0.5"),
        ("1\N{EN DASH}3", "1--3"),
        ("30\N{NO-BREAK SPACE}s", "30~s"),
    ],
)
def test_escapes(text: str, escaped: str) -> None:
    assert escape(text) == escaped


@pytest.mark.parametrize(
    "name", ["<script>", "|", "_", "&", "%", "\\", "{", "}", "[x]", "*", "$", "^", "~", "\\\\[1em]", "é"]
)
def test_latex_compiles_by_construction(name: str) -> None:
    text = latex_table(name, (name, "n"), [(name, "1"), (name, name)], numbers=("n",))
    check_latex(text)
    assert r"\begin{tabular}{lr}" in text


def test_long_text_breaks_into_lines() -> None:
    text = latex_table("x", ("method", "n"), [("a name of a method that is long", "1")], numbers=("n",))
    assert r"\begin{tabular}{p{1.9cm}r}" in text


def test_hostile_names_in_records(record: Record, tmp_path: Path) -> None:
    name = "<script>|x_&%"
    record(method="odd", protocol=f"file:{name}")
    tables = comparisons(load_runs(tmp_path).assign(variant=name))
    check_latex(format_comparisons(tables, "latex"))
    assert "<script" not in format_comparisons(tables, "markdown")
    assert rows_of(format_comparisons(tables, "csv"))[0]["variant"] == name


def test_formats_of_published_numbers() -> None:
    tables = published_tables("f30k", None)
    rows = rows_of(format_published(tables, "csv"))
    assert len(rows) == 248
    assert {row["unit"] for row in rows} == {"clean", "images", "captions", "unknown"}
    for row, line in zip(rows, (line for table in tables for line in table.lines), strict=True):
        assert row == {key: "" if value is None else str(value) for key, value in line.facts().items()}
    latex = format_published(tables, "latex")
    check_latex(latex)
    assert latex.count(r"\begin{table*}") == len(tables)
    notes = [note.partition(": ") for table in tables for note in table.footnotes()]
    assert all(rf"\mbox{{{label}:}} {escape(text)}." in latex for label, _, text in notes)
    markdown = format_published(tables, "markdown")
    assert markdown.count("\n## ") + markdown.startswith("## ") == len(tables)
    assert json.dumps([line.facts() for table in tables for line in table.lines], allow_nan=False)


def test_columns_of_published_tables() -> None:
    # Without runs of ours, their columns are left out.
    names = [name for name in PUBLISHED_COLUMNS if name not in ("our rSum", "seeds", "difference")]
    assert " & ".join(names) + r" \\" in format_published(published_tables("cc152k", None), "latex")
