"""The README stays short, names the two commands that newcomers and CI type, and shows numbers of committed records."""

from __future__ import annotations

import re

import pandas as pd
from pages import blocks
from places import ROOT

README = ROOT / "README.md"
MAX_LINES, MAX_WORDS = 130, 800
RUNS = ROOT / "leaderboards" / "scenes" / "runs.csv"
CELL = r" \| [*]*(\d+)[*]*"
ROW = re.compile(rf"^\| \*?(\w+)(?: \([^)]*\)\*?)?{4 * CELL} \|$", re.MULTILINE)


def test_it_is_short() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    assert len(text.split()) <= MAX_WORDS


def test_two_commands_set_everything_up() -> None:
    commands = [command for block in blocks(README) for command in block.commands if block.language == "sh"]
    assert {"make demo", "make test"} <= set(commands)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(targets)


def test_the_table_holds_means_over_three_seeds() -> None:
    runs = pd.read_csv(RUNS)
    runs = runs[runs["protocol"].isin(["clean", "shuffle-images"])]
    shown = {method: [int(cell) for cell in cells] for method, *cells in ROW.findall(README.read_text())}
    assert len(shown) > 4
    for method, numbers in shown.items():
        for noise, number in zip([0, 0.2, 0.4, 0.6], numbers, strict=True):
            found = runs[(runs["method"] == method) & (runs["noise"] == noise)]
            assert len(found) == 3
            assert number == round(found["rsum"].mean()), f"{method} at {noise}"
