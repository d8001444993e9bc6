"""The page that recommends methods: every number is that of a cell of the leaderboard."""

from __future__ import annotations

import re

from board_scores import scores_of_scenes
from pages import PAGES

CELL = re.compile(r"(\d+\.\d)\s\(`([\w-]+)`,\s(images|captions|clean)(?:\s(0\.\d))?\)")
PROTOCOLS = {"images": "shuffle-images", "captions": "shuffle-captions", "clean": "clean"}


def test_every_number_is_a_cell_of_the_board() -> None:
    board = scores_of_scenes()
    (page,) = (page for page in PAGES if page.name == "which-method.md")
    text = page.read_text()
    cells = CELL.findall(text)
    assert len(cells) > 10
    for number, method, unit, ratio in cells:
        assert number == f"{board[method, PROTOCOLS[unit], float(ratio or 0)]:.1f}", f"{method}, {unit} {ratio}"
    # A score that names no cell could not be checked.
    assert re.findall(r"(?<![\d.,-])[1-5]\d\d\.\d(?!\s\(`)", text) == []
