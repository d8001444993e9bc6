"""Documents that quote scores of the leaderboard: every number is that of the cell that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from quotes import DOCUMENTS, QUOTE, renewed, scores_of_scenes

BOARD = pd.Series({("l2rm", "shuffle-images", 0.4): 525.66, ("rce", "clean", 0.0): 531.0})


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.name))
def test_every_number_is_a_cell_of_the_board(path: Path) -> None:
    text = path.read_text()
    assert len(QUOTE.findall(text)) > 10
    assert renewed(text, scores_of_scenes()) == text, "run `python benchmarks/quotes.py`"


def test_the_page_that_recommends_methods_names_the_cell_of_each_score() -> None:
    text = next(path for path in DOCUMENTS if path.name == "which-method.md").read_text()
    assert re.findall(r"(?<![\d.,-])[1-5]\d\d\.\d(?!\s\(`)", text) == []


def test_quotes_are_renewed_and_keep_their_line_breaks() -> None:
    text = "so 500.0 (`l2rm`,\nimages 0.4), 530.1\n(`rce`, clean) and 12.3 points"
    assert renewed(text, BOARD) == "so 525.7 (`l2rm`,\nimages 0.4), 531.0\n(`rce`, clean) and 12.3 points"


def test_a_cell_that_there_is_not() -> None:
    with pytest.raises(KeyError):
        renewed("1.0 (`l2rm`, captions 0.4)", BOARD)
