"""The table of how variants differ from the preset."""

from __future__ import annotations

from pathlib import Path

import differences as module
import pandas as pd
import pytest
from click.testing import CliRunner
from differences import differences


def test_differences_are_taken_seed_by_seed() -> None:
    rows = [
        ("l2rm", 0.4, 0, 500.0),
        ("l2rm", 0.4, 1, 510.0),
        ("l2rm (mass=1.0)", 0.4, 1, 511.0),  # rows may come in any order
        ("l2rm (mass=1.0)", 0.4, 0, 503.0),
        ("l2rm", 0.8, 0, 400.0),
        ("l2rm (mass=1.0)", 0.8, 0, 390.0),
    ]
    frame = pd.DataFrame(rows, columns=["variant", "noise", "seed", "rsum"]).assign(method="l2rm")
    found = differences(frame)
    assert found.loc["l2rm (mass=1.0)", 0.4].to_dict() == pytest.approx(
        {"mean": 507.0, "difference": 2.0, "std": 2**0.5}
    )
    assert found.loc["l2rm", 0.4].to_dict() == pytest.approx({"mean": 505.0, "difference": 0.0, "std": 0.0})
    assert found.loc["l2rm (mass=1.0)", (0.8, "difference")] == -10
    other = differences(frame, base="l2rm (mass=1.0)")
    assert other.loc["l2rm", (0.4, "difference")] == pytest.approx(-2)
    assert other.loc["l2rm (mass=1.0)", (0.4, "difference")] == 0


def test_an_unknown_base_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    frame = pd.DataFrame({"variant": ["l2rm", "l2rm (mass=1.0)"]})
    monkeypatch.setattr(module, "load_runs", lambda folder: frame)
    result = CliRunner().invoke(module.main, [str(tmp_path), "--base", "l2rm (mass=2.0)"])
    assert result.exit_code == 2
    assert "expected one of l2rm, l2rm (mass=1.0) as --base, found l2rm (mass=2.0)" in " ".join(result.output.split())
