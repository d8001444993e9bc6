"""Typical commands on realistic data; slow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from places import SHARED

GOLDEN = SHARED / "goldens" / "f30k"


def ncbench(*words: str) -> str:
    """Run the command line in a new process and return its standard output."""
    program = [sys.executable, "-c", "from ncbench.cli import main; main()"]
    done = subprocess.run([*program, *words], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the reference copy of the Flickr30K format is not here")
def test_released_format_with_a_noise_index_file(tmp_path: Path) -> None:
    order = np.arange(200)
    order[:80] = np.roll(order[:80], 1)
    np.save(tmp_path / "index.npy", order)
    printed = ncbench(
        *["run", "--dataset", "f30k", "--data-root", str(GOLDEN), "--method", "triplet,l2rm", "--noise", "0.4"],
        *["--protocol", f"file:{tmp_path / 'index.npy'}", "--budget", "1", "--out", str(tmp_path / "runs"), "--json"],
        *[word for size in ("embed=64", "similarity=32", "word=32") for word in ("--set", f"backbone.{size}")],
        *["--set", "l2rm.batch_size=32", "--set", "l2rm.queue=32", "--set", "triplet.batch_size=32"],
    )
    outcomes = json.loads(printed)
    assert [outcome["status"] for outcome in outcomes] == ["done", "done"]
    for outcome in outcomes:
        result = outcome["result"]
        assert result["spec"]["unit"] == "images"
        assert result["mismatched"] == 0.4
        assert 0 < result["work"]["used"] <= result["work"]["budget"]
    ncbench("report", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "pages"))
    assert "file:index.npy@" in (tmp_path / "pages" / "f30k" / "README.md").read_text()


@pytest.mark.slow
def test_scenes_are_learned_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))
    printed = ncbench(
        *["run", "--method", "l2rm", "--noise", "0", "--backbone", "vse", "--budget", "2"],
        *["--out", str(tmp_path / "runs"), "--json"],
    )
    ((outcome),) = json.loads(printed)
    chance = 100 * (1 + 5 + 10) * (1 / 1000 + 1 / 1000)
    assert outcome["result"]["metrics"]["test"]["rsum"] > 10 * chance
