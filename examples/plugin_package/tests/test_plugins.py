"""The plugins keep the contracts of ncbench, and work together."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import ncbench
from ncbench.cli import main


@pytest.mark.parametrize(
    "words",
    ["methods check soft-margin", "data check dots", "noise check carousel"],
    ids=lambda words: words.split()[0],
)
def test_they_conform(words: str) -> None:
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code == 0, result.output


def test_they_work_together(tmp_path: Path) -> None:
    words = "run --method soft-margin --dataset dots --protocol carousel --noise 0.2 --backbone vse --out"
    result = CliRunner().invoke(main, [*words.split(), str(tmp_path)])
    assert result.exit_code == 0, result.output
    (run,) = ncbench.load_runs(tmp_path).to_dict(orient="records")
    assert run["rsum"] > 300  # chance is 152
