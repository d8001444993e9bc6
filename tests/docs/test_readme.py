"""The README stays short, names the two commands that newcomers and CI type, and shows numbers of committed records."""

from __future__ import annotations

import re

from pages import blocks
from places import ROOT
from quotes import scores_of_scenes

from ncbench.method.registry import method_names

README = ROOT / "README.md"
MAX_LINES, MAX_WORDS = 130, 800
CELL = r" ?\| [*]*(\d*)[*]*"
ROW = re.compile(rf"^\| \*?(\w+)(?: \([^)]*\)\*?)?{3 * CELL} \|$", re.MULTILINE)


def test_it_is_short() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    assert len(text.split()) <= MAX_WORDS


def test_two_commands_set_everything_up() -> None:
    commands = [command for block in blocks(README) for command in block.commands if block.language == "sh"]
    assert {"make demo", "make test"} <= set(commands)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(targets)


def test_the_table_holds_what_was_measured() -> None:
    shown = {method: cells for method, *cells in ROW.findall(README.read_text())}
    assert list(shown) == ["l2rm", "rcl", "rce", "triplet", "oracle"]
    found = scores_of_scenes()
    for method, cells in shown.items():
        for noise, cell in zip([0.0, 0.4, 0.8], cells, strict=True):
            assert int(cell) == round(found[method, "shuffle-images" if noise else "clean", noise]), (
                f"{method} at {noise}"
            )


def test_every_shipped_method_and_no_other_is_named() -> None:
    (line,) = (line for line in README.read_text().splitlines() if line.startswith("| [Methods]"))
    assert sorted(re.findall(r"`([\w-]+)`", line)) == method_names()
