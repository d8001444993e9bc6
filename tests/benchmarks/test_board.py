"""The commands of the leaderboards: complete, and accepted by `ncbench run`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import board
import pandas as pd
import pytest
from board import METHODS, NEWCOMERS, PARTS, VARIANTS
from click import UsageError
from click.testing import CliRunner

import ncbench
from ncbench.cli import main
from ncbench.method.registry import load_method, method_names


def value(words: Sequence[str], name: str) -> list[str]:
    return words[list(words).index(f"--{name}") + 1].split(",")


def test_the_board_has_every_method_seven_conditions_and_five_seeds(tmp_path: Path) -> None:
    cells = {
        (method, protocol, noise, seed)
        for words in PARTS["board"](tmp_path)
        for method in value(words, "method")
        for protocol in value(words, "protocol")
        for noise in value(words, "noise")
        for seed in value(words, "seed")
    }
    assert len(cells) == 12 * 7 * 5
    assert {method for method, *_ in cells} == set(METHODS)
    assert [value(words, "seed") for words in PARTS["board"](tmp_path)] == [[seed] for seed in "0011223344"]


def test_every_registered_method_is_on_the_board() -> None:
    assert sorted({*METHODS, *NEWCOMERS}) == method_names()


def test_variants_of_l2rm_change_settings_that_exist() -> None:
    config = load_method("l2rm").Config
    for variant in VARIANTS:
        key, _, text = variant.partition("=")
        assert str(getattr(config(), key)) != text
    assert len(VARIANTS) == 13


def test_the_work_of_compute_is_that_of_the_dearest_method(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = [("own-epochs", 5, 7.2), ("own-epochs", 5, 12.3), ("own-epochs", 9, 99.0), ("epochs", 5, 50.0)]
    frame = pd.DataFrame(rows, columns=["budget_unit", "budget", "used"])
    monkeypatch.setattr(ncbench, "load_runs", lambda folder: frame)
    assert [value(words, "budget") for words in PARTS["compute"](tmp_path)] == [["13"]]
    monkeypatch.setattr(ncbench, "load_runs", lambda folder: frame[2:])
    result = CliRunner().invoke(board.main, ["compute", "--runs", str(tmp_path)])
    assert result.exit_code == 2
    assert "no runs of the part `papers`" in result.output


def test_own_data_has_the_best_settings_of_its_search(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(board, "__file__", str(tmp_path / "board.py"))
    monkeypatch.setattr(board, "METHODS", ("rce", "triplet"))
    with pytest.raises(UsageError, match=r"cannot read .*search-photos.json .*search settings first"):
        PARTS["photos"](tmp_path)
    condition = {"dataset": "photos.toml", "protocol": "shuffle-images", "noise": [0.4]}
    condition |= {"backbone": "vse-infinity", "budget": 10.0, "seed": 100}
    trials = {
        name: [{"trial": n, "settings": {"lr": rate}, "runs": [{"noise": 0.4, "dev_rsum": rate}]} for n, rate in rates]
        for name, rates in {
            "rce": [(n, 0.3 if n == 1 else 0.1) for n in range(12)],
            "triplet": [(n, 0.2) for n in range(12)],
        }.items()
    }
    log = tmp_path / "search-photos.json"
    log.write_text(json.dumps({"condition": condition, "methods": {**trials, "triplet": trials["triplet"][:5]}}))
    with pytest.raises(UsageError, match="is incomplete: 5 of 12 trials of triplet are decided; continue the search"):
        PARTS["photos"](tmp_path)
    log.write_text(json.dumps({"condition": condition, "methods": trials}))
    (words,) = PARTS["photos"](tmp_path)
    assert value(words, "dataset") == ["photos.toml"]
    assert [words[n + 1] for n, word in enumerate(words) if word == "--set"] == ["rce.lr=0.3", "triplet.lr=0.2"]
    assert value(words, "seed") == ["0", "1", "2"]


@pytest.mark.parametrize("part", sorted(set(PARTS) - {"board", "compute", "papers", "photos", "icons"}))
def test_commands_are_accepted(part: str, tmp_path: Path) -> None:
    for words in PARTS[part](tmp_path):
        options = ["--out", str(tmp_path), "--dry-run", "--assume", "xeon-1-thread", "--json"]
        result = CliRunner().invoke(main, ["run", *words, *options], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr


def test_every_part_is_described() -> None:
    assert board.__doc__ is not None
    assert all(f"\n  {name} " in board.__doc__ for name in PARTS)
