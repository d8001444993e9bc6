"""`report_runs`: the pages of the command, and problems as warnings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sources import Source
from toy_methods import Toy

import ncbench
from ncbench import UserError
from ncbench.cli import main
from ncbench.data.dataset import Dataset


@pytest.fixture
def runs(tmp_path: Path, register: Callable[..., None], tiny: Dataset) -> Path:
    register("ncbench.datasets", "tiny", Source(tiny))
    register("ncbench.methods", "toy", Toy)
    ncbench.run("toy", 0.4, dataset="tiny", backbone="vse", budget=1, evaluations=1, seed=[0, 1], out=tmp_path / "runs")
    return tmp_path / "runs"


def contents(folder: Path, files: Any) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_pages_are_those_of_the_command(runs: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    written = ncbench.report_runs(runs, str(here))
    assert here / "tiny" / "README.md" in written
    done = CliRunner().invoke(main, ["report", "--runs", str(runs), "--out", str(there)])
    assert done.exit_code == 0
    texts = [path for path in written if path.suffix in (".md", ".csv")]
    assert contents(here, texts) == contents(there, [there / path.relative_to(here) for path in texts])
    assert sorted(path.relative_to(here) for path in written) == sorted(
        path.relative_to(there) for path in there.rglob("*") if path.is_file()
    )


def test_problems_are_warnings(runs: Path, tmp_path: Path) -> None:
    damaged = next(runs.rglob("result.json"))
    damaged.write_text("{}")
    with pytest.warns(RuntimeWarning, match=r"result\.json: .*\(left out\)"):
        written = ncbench.report_runs(runs, tmp_path / "out", html=True)
    assert tmp_path / "out" / "index.html" in written


def test_without_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no finished run"):
        ncbench.report_runs(tmp_path)
