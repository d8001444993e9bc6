"""`report --published` and `report --format`: what they print; nothing is written."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from ncbench.records.table import load_runs
from ncbench.report.pages.formats import format_comparisons, format_published
from ncbench.report.tables import versus_published
from ncbench.report.tables.comparisons import comparisons
from ncbench.report.tables.published_summary import published_summaries
from ncbench.report.tables.versus_published import published_tables


@pytest.fixture
def recorded(toy_run: Callable[..., Result], tmp_path: Path) -> Path:
    """Return a folder with runs at two ratios."""
    assert toy_run("--method", "quick", "--noise", "0,0.4").exit_code == 0
    return tmp_path / "runs"


def refused(result: Result, message: str) -> None:
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {message}\n")


def test_published_without_runs(cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("report", "--published", "f30k")
    assert (result.exit_code, result.stderr) == (0, "")
    titles = [line.strip() for line in result.stdout.splitlines() if line.startswith("f30k, ")]
    assert titles == [f"{one.title}: rSum" for one in published_summaries(published_tables("f30k", None))]
    assert len(result.stdout.splitlines()) < 100
    assert list(tmp_path.iterdir()) == []


def test_published_beside_runs_of_another_dataset(recorded: Path, cli: Callable[..., Result]) -> None:
    result = cli("report", "--published", "cc152k", "--runs", recorded)
    assert result.exit_code == 0
    assert "cc152k, test: rSum" in result.stdout
    single = cli("report", "--published", "cc152k", "--runs", recorded, "--method", "L2RM,ncr")
    assert single.exit_code == 0
    assert "cc152k, test: natural noise" in single.stdout
    assert "  1: " in single.stdout


@pytest.mark.parametrize("name", ["noise", "method", "backbone", "paper"])
def test_filters_are_of_published_results(name: str, cli: Callable[..., Result], tmp_path: Path) -> None:
    result = cli("report", f"--{name}", "0.4", "--runs", tmp_path)
    refused(result, f"--{name} filters published results; add --published DATASET.")


def test_a_filter_that_admits_nothing(cli: Callable[..., Result], tmp_path: Path) -> None:
    result = cli("report", "--published", "f30k", "--noise", "0.3", "--runs", tmp_path)
    known = "0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8"
    refused(result, f"no published result on f30k passes the filters; --noise has {known}.")


def test_published_as_json(
    recorded: Path, cli: Callable[..., Result], strict_json: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(versus_published.EVALUATIONS, "tiny", ("test",))
    row = next(row for row in versus_published.read_published() if row.unit == "images" and row.noise == 0.4)
    changed = {**vars(row), "dataset": "tiny", "evaluation": "test", "method": "quick", "backbone": "vse"}
    monkeypatch.setattr(versus_published, "read_published", lambda: [type(row)(**changed)])
    (line,) = strict_json(cli("report", "--published", "tiny", "--runs", recorded, "--json").stdout)
    (rsum,) = load_runs(recorded).query("noise == 0.4")["rsum"]
    assert (line["rsum"], line["paper"], line["unit"], line["our_seeds"]) == (row.rsum, row.paper, "images", 1)
    assert line["our_rsum"] == pytest.approx(rsum)
    assert line["difference"] is None  # our budget is compute-matched
    assert "our budget is compute-matched, papers count epochs" in line["unlike"]
    assert line["our_rsum_std"] is None


@pytest.mark.parametrize("form", ["csv", "latex", "markdown"])
def test_formats(form: Any, recorded: Path, cli: Callable[..., Result], tmp_path: Path) -> None:
    out = tmp_path / "pages"
    result = cli("report", "--runs", recorded, "--out", out, "--format", form)
    assert (result.exit_code, result.stderr) == (0, "")
    _, *shown = result.stdout.splitlines() if form == "latex" else ["", *result.stdout.splitlines()]
    _, *expected = ["", *format_comparisons(comparisons(load_runs(recorded)), form).splitlines()][form == "latex" :]
    assert shown == expected
    assert not out.exists()
    published = cli("report", "--runs", recorded, "--published", "f30k", "--format", form)
    assert published.stdout == format_published(published_tables("f30k", None), form)


def test_csv_is_one_table(recorded: Path, cli: Callable[..., Result]) -> None:
    rows = list(csv.DictReader(io.StringIO(cli("report", "--runs", recorded, "--format", "csv").stdout)))
    assert [(row["protocol"], row["noise"], row["variant"]) for row in rows] == [
        ("clean", "0.0", "quick"),
        ("shuffle-images", "0.4", "quick"),
    ]


def test_a_dataset_of_which_nothing_is_published(cli: Callable[..., Result], tmp_path: Path) -> None:
    refused(
        cli("report", "--published", "scenes", "--runs", tmp_path),
        "no published results for dataset 'scenes'; available: f30k, coco, cc152k.",
    )


@pytest.mark.parametrize("words", [(), ("--published", "f30k")])
def test_two_formats(words: tuple[str, ...], cli: Callable[..., Result], tmp_path: Path) -> None:
    refused(
        cli("report", "--json", "--format", "csv", "--runs", tmp_path, *words),
        "--format and --json cannot be combined.",
    )


@pytest.mark.parametrize(("words", "other"), [(("--format", "csv"), "format"), (("--published", "f30k"), "published")])
def test_pages_where_nothing_is_written(
    words: tuple[str, ...], other: str, cli: Callable[..., Result], tmp_path: Path
) -> None:
    result = cli("report", "--html", "--runs", tmp_path, *words)
    refused(result, f"--html cannot be combined with --{other}, which only prints.")


def test_latex_with_chosen_columns_and_rows(recorded: Path, cli: Callable[..., Result]) -> None:
    words = ("--format", "latex", "--columns", "rsum,seeds", "--rows", "quick")
    shown = cli("report", "--runs", recorded, *words).stdout
    assert shown.startswith(
        f"% ncbench report --runs {recorded} --format latex --columns rsum,seeds --rows quick (ncbench"
    )
    assert "noise & method & rSum & seeds" in shown


@pytest.mark.parametrize("words", [(), ("--format", "csv"), ("--published", "f30k", "--format", "latex")])
@pytest.mark.parametrize("option", ["--columns", "--rows"])
def test_columns_without_latex(option: str, words: tuple[str, ...], cli: Callable[..., Result], tmp_path: Path) -> None:
    refused(cli("report", "--runs", tmp_path, option, "rsum", *words), f"{option} needs --format latex.")


def test_an_unknown_format(cli: Callable[..., Result]) -> None:
    result = cli("report", "--format", "html")
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert "'html' is not one of 'csv', 'latex', 'markdown', 'summary'" in result.stderr


def test_no_runs_to_format(cli: Callable[..., Result], tmp_path: Path) -> None:
    hint = f"make one with: ncbench run --method triplet --out {tmp_path}"
    refused(cli("report", "--runs", tmp_path, "--format", "csv"), f"{tmp_path} has no finished run; {hint}.")


@pytest.mark.parametrize("damage", ["{", '{"schema": 1}'])
def test_damaged_runs_are_told(damage: str, cli: Callable[..., Result], tmp_path: Path) -> None:
    folder = tmp_path / "f30k" / "quick" / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(damage)
    result = cli("report", "--published", "f30k", "--runs", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert str(folder / "result.json") in result.stderr


def test_the_summary_is_the_sentence_of_the_page(recorded: Path, cli: Callable[..., Result], tmp_path: Path) -> None:
    shown = cli("report", "--format", "summary", "--runs", recorded)
    assert shown.exit_code == 0
    (line,) = shown.stdout.splitlines()
    name, _, sentence = line.partition(": ")
    assert name == "tiny"
    assert sentence.startswith("At 40% noise (shuffle-images), use quick (rSum ")
    cli("report", "--runs", recorded, "--out", tmp_path / "pages")
    page = (tmp_path / "pages" / "tiny" / "README.md").read_text().replace("\u00a0", " ")
    assert f"**{sentence}**" in page


def test_a_summary_is_of_our_runs(cli: Callable[..., Result], tmp_path: Path) -> None:
    refused(
        cli("report", "--format", "summary", "--published", "f30k", "--runs", tmp_path),
        "--format summary sums up our runs; it cannot be combined with --published.",
    )


@pytest.mark.parametrize("width", range(60, 241, 30))
def test_published_results_fit_any_terminal(
    width: int, cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ncbench.cli.display import consoles, output

    monkeypatch.setattr(output, "console", lambda: consoles.PrintableConsole(width=width))
    for words in (("--published", "f30k"), ("--published", "f30k", "--noise", "0.4")):
        shown = cli("report", "--runs", tmp_path, *words).stdout
        tables = [line for line in shown.splitlines() if line.startswith(("│", "┃", "┏", "└"))]
        assert tables
        assert all(len(line) <= width for line in tables)
        assert "…" not in shown
