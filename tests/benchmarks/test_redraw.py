"""Figures redrawn from runs.csv are those that the report drew from the records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner
from redraw import main

from ncbench.records.table import load_runs
from ncbench.report import write_report
from ncbench.report.tables.leaderboard import leaderboards


def test_the_same_bytes(record: Callable[..., Path], tmp_path: Path) -> None:
    for noise in (0.2, 0.4, 0.6):
        for number, method in enumerate(("triplet", "l2rm", "rce")):
            record(*((10.0 * number + 50 * noise,) * 6), method=method, noise=noise)
        record(method="oracle", noise=noise, told_truth=True)
    written = write_report(leaderboards(load_runs(tmp_path)), tmp_path / "pages")
    figures = {path: path.read_bytes() for path in written if path.parent.name == "figures"}
    assert {path.stem for path in figures} == {"rsum", "rsum-by-method", "ranks"}
    for path in figures:
        path.unlink()
    result = CliRunner().invoke(main, [str(tmp_path / "pages" / "toy")])
    assert result.exit_code == 0
    assert {path: path.read_bytes() for path in figures} == figures
