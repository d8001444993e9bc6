"""Parts of reports that were computed before: the same pages without computing them again, unless a record changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result

from ncbench.records import remembered
from ncbench.report import computed
from ncbench.report.computed import Computed
from ncbench.report.figures import beliefs, noise_curves
from ncbench.report.figures.style import Figure, figure_files
from ncbench.report.tables import comparisons


@pytest.fixture
def runs(toy_run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of records, which are remembered although they are few and new."""
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "MIN_RECORDS", 1)
    monkeypatch.setattr(remembered, "SETTLED_SECONDS", -1e6)
    assert toy_run("--method", "quick", "--noise", "0.2,0.4").exit_code == 0
    return tmp_path / "runs"


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the name of everything expensive that a report does."""
    done: list[str] = []
    for room, name in (
        (comparisons, "Bootstrap"),
        (noise_curves, "draw_noise_curves"),
        (beliefs, "collect_beliefs"),
    ):
        call = getattr(room, name)

        def noted(*args: object, call: Callable[..., object] = call, name: str = name) -> object:
            done.append(name)
            return call(*args)

        monkeypatch.setattr(room, name, noted)
    return done


def pages(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_report_computes_nothing_and_writes_the_same(
    cli: Callable[..., Result], runs: Path, worked: list[str], tmp_path: Path
) -> None:
    first = cli("report", "--runs", runs, "--out", tmp_path / "a")
    assert first.exit_code == 0
    assert worked.count("Bootstrap") == 2
    assert set(worked) == {"Bootstrap", "draw_noise_curves", "collect_beliefs"}
    worked.clear()
    second = cli("report", "--runs", runs, "--out", tmp_path / "b")
    assert (second.exit_code, worked) == (0, [])
    assert second.stdout.replace("/b", "/a") == first.stdout
    assert pages(tmp_path / "a") == pages(tmp_path / "b")
    assert any(name.endswith("rsum.svg") for name in pages(tmp_path / "b"))


def test_a_figure_that_was_changed_is_restored(cli: Callable[..., Result], runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "pages"
    assert cli("report", "--runs", runs, "--out", out).exit_code == 0
    found, figure = pages(out), out / "tiny/figures/rsum.svg"
    figure.write_bytes(figure.read_bytes().replace(b"<svg", b"<SVG"))
    assert pages(out) != found
    assert cli("report", "--runs", runs, "--out", out).exit_code == 0
    assert pages(out) == found


def test_what_depends_on_a_changed_record_is_computed_again(
    cli: Callable[..., Result], runs: Path, worked: list[str], tmp_path: Path
) -> None:
    assert cli("report", "--runs", runs, "--out", tmp_path / "a").exit_code == 0
    worked.clear()
    history = next(runs.glob("tiny/quick/*/history.jsonl"))
    history.write_text(history.read_text() + "\n")
    assert cli("report", "--runs", runs, "--out", tmp_path / "b").exit_code == 0
    assert worked.count("Bootstrap") == 1  # of the other ratio, nothing has changed
    assert worked.count("draw_noise_curves") == 1


def test_a_comparison_with_a_damaged_record_is_computed_every_time(
    cli: Callable[..., Result], runs: Path, worked: list[str], tmp_path: Path
) -> None:
    next(runs.glob("tiny/quick/*/ranks.npz")).unlink()
    for _ in range(2):
        worked.clear()
        assert cli("report", "--runs", runs, "--out", tmp_path / "a").exit_code == 1
        assert "Bootstrap" in worked


def test_other_code_computes_everything(
    cli: Callable[..., Result], runs: Path, worked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("report", "--runs", runs, "--out", tmp_path / "a").exit_code == 0
    worked.clear()
    for room in (remembered, computed):
        monkeypatch.setattr(room, "code_state", lambda: "other")
    assert cli("report", "--runs", runs, "--out", tmp_path / "a").exit_code == 0
    assert worked.count("Bootstrap") == 2


def frame(**changes: object) -> pd.DataFrame:
    rows = [
        {"folder": f"runs/{number}", "id": str(number), "variant": "quick", "conditions": "", "problems": ""}
        for number in range(2)
    ]
    return pd.DataFrame(rows).assign(submission="", **changes)


def test_a_part_depends_on_what_runs_are_called_and_on_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path))
    states = {"runs/0": "a", "runs/1": "b"}
    parts = Computed(states)
    assert parts.value("part", frame(), int, lambda: 1) == 1
    assert parts.value("part", frame(), int, lambda: 2) == 1
    assert parts.value("other part", frame(), int, lambda: 2) == 2
    assert parts.value("part", frame(variant="other"), int, lambda: 3) == 3
    assert parts.value("part", frame(conditions="harness 1"), int, lambda: 4) == 4
    assert Computed({**states, "runs/1": "c"}).value("part", frame(), int, lambda: 5) == 5
    assert Computed({**states, "runs/1": ""}).value("part", frame(), int, lambda: 6) == 6
    assert Computed().value("part", frame(), int, lambda: 7) == 7


def test_figures_are_written_where_they_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))
    parts = Computed({"runs/0": "a", "runs/1": "b"})

    def draw(folder: Path) -> list[Figure]:
        folder.mkdir(parents=True)
        for file in figure_files(folder / "one"):
            file.write_bytes(file.suffix.encode())
        return [Figure("One", "figures/one.svg", "What it shows")]

    first = parts.figures("part", frame(), tmp_path / "a/figures", lambda: draw(tmp_path / "a/figures"))
    second = parts.figures("part", frame(), tmp_path / "b/figures", lambda: pytest.fail("drawn again"))
    assert first == second == [Figure("One", "figures/one.svg", "What it shows")]
    assert pages(tmp_path / "b") == {"figures/one.svg": b".svg", "figures/one.png": b".png"}
