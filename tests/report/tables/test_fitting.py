"""Scores for all that fits beside the usual ones, and what they say about the order of methods."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncbench.records.table import load_runs
from ncbench.report.pages.html import html_page
from ncbench.report.pages.legend import FITTING_LEGEND
from ncbench.report.pages.markdown import page
from ncbench.report.tables.comparisons import comparisons
from ncbench.report.tables.fitting import COLUMNS, FittingTable, fitting_table, rank_agreement
from ncbench.report.tables.leaderboard import leaderboards

Record = Callable[..., Path]


def scored(
    record: Record, method: str, level: float, map_at_r: float, forgiven: float | None = 0.0, **axes: object
) -> Path:
    """Write a run with R@1 of `level` in both directions, which first hits that fit raise by a share `forgiven`."""
    first = level + (100 - level) * (forgiven or 0) / 100
    side = (map_at_r, map_at_r + 1, first, forgiven)
    return record(*(level, 50.0, 60.0) * 2, fitting=(*side, *side), method=method, **axes)


def table_of(folder: Path) -> FittingTable:
    (table,) = comparisons(load_runs(folder))
    found = fitting_table(table)
    assert found is not None
    return found


def test_means_over_seeds(record: Record, tmp_path: Path) -> None:
    record(10.0, 20.0, 30.0, 11.0, 21.0, 31.0, fitting=(1.0, 2.0, 12.0, 3.0, 5.0, 6.0, 13.0, 7.0))
    record(10.0, 20.0, 30.0, 11.0, 21.0, 31.0, fitting=(2.0, 3.0, 12.0, 4.0, 6.0, 7.0, 13.0, 8.0), seed=1)
    record(9.0, 20.0, 30.0, 11.0, 21.0, 31.0, fitting=(1.0, 2.0, 12.0, None, 5.0, 6.0, 13.0, 7.0), method="rce")
    record(8.0, 20.0, 30.0, 11.0, 21.0, 31.0, method="l2rm")  # an older record
    found = table_of(tmp_path)
    assert found.rows == [
        ["triplet", "123.0 ± 0.0", "1.5", "5.5", "2.5", "6.5", "3.5", "7.5"],
        ["rce", "122.0", "1.0", "5.0", "2.0", "6.0", "-", "7.0"],
        ["l2rm", "121.0", *["-"] * 6],
    ]
    assert len(found.rows[0]) == len(COLUMNS)
    assert found.sentence == ""  # two methods have no order to speak of


def test_a_seed_without_scores_leaves_the_mean_out(record: Record, tmp_path: Path) -> None:
    record(10.0, 20.0, 30.0, 11.0, 21.0, 31.0, fitting=(1.0, 2.0, 12.0, 3.0, 5.0, 6.0, 13.0, 7.0))
    record(10.0, 20.0, 30.0, 11.0, 21.0, 31.0, seed=1)
    assert table_of(tmp_path).rows == [["triplet", "123.0 ± 0.0", *["-"] * 6]]


def test_an_order_that_stays(record: Record, tmp_path: Path) -> None:
    for method, level in (("triplet", 10.0), ("rce", 20.0), ("l2rm", 30.0)):
        scored(record, method, level, level / 2)
    assert table_of(tmp_path).sentence == (
        "Forgiving wrong first hits that fit leaves the order of the 3 methods by R@1 as it is (Kendall's tau 1.00). "
        "Ranking by mAP@R instead of rSum leaves the order of the 3 methods by rSum as it is (Kendall's tau 1.00)."
    )


def test_an_order_that_changes(record: Record, tmp_path: Path) -> None:
    scored(record, "triplet", 10.0, 9.0, forgiven=50.0)  # first fits: 55
    scored(record, "rce", 20.0, 5.0)
    scored(record, "l2rm", 30.0, 7.0)
    scored(record, "oracle", 90.0, 90.0, told_truth=True)  # references have no place
    sentence = table_of(tmp_path).sentence
    assert (
        "first hits that fit changes the order of the 3 methods by R@1: Kendall's tau is -0.33, and triplet moves "
        in sentence
    )
    assert "moves most, from place 3 to 1. Ranking by mAP@R instead of rSum changes the order" in sentence
    assert sentence.endswith("by rSum: Kendall's tau is -0.33, and triplet moves most, from place 3 to 1.")


def test_equal_methods_have_no_order(record: Record, tmp_path: Path) -> None:
    for method, map_at_r in (("triplet", 1.0), ("rce", 2.0), ("l2rm", 3.0)):
        scored(record, method, 10.0, map_at_r)
    assert "Ranking by mAP@R instead of rSum cannot be judged: all 3 methods are equal." in table_of(tmp_path).sentence


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=7))
def test_rank_agreement_is_tau_b(scores: list[tuple[int, int]]) -> None:
    frame = pd.DataFrame(scores, [f"m{n}" for n in range(len(scores))], columns=["one", "other"]).astype(float)
    found = rank_agreement(frame["one"], frame["other"].iloc[::-1])
    signs = [(np.sign(a[0] - b[0]), np.sign(a[1] - b[1])) for a, b in combinations(scores, 2)]
    norm = math.sqrt(sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs))
    if norm == 0:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(sum(x * y for x, y in signs) / norm)


def test_pages(record: Record, tmp_path: Path) -> None:
    folders = [scored(record, method, level, level) for method, level in (("rce", 10.0), ("l2rm", 9.0), ("gce", 8.0))]
    (board,) = leaderboards(load_runs(tmp_path))
    text = page(board)
    assert (
        "(Kendall's tau 1.00).\n\n<details><summary>All that fits</summary>\n\n"
        "| method | rSum | i2t mAP@R | t2i mAP@R | i2t R-precision | t2i R-precision | "
        "i2t wrong firsts that fit | t2i wrong firsts that fit |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| rce | 240.0 | 10.0 | 10.0 | 11.0 | 11.0 | 0.0 | 0.0 |\n"
    ) in text
    assert text.index("rank | rSum") < text.index("All that fits") < text.index("Budget, time and memory")
    assert FITTING_LEGEND in text
    shown = html_page([(board, [])], tmp_path)
    assert "<details><summary>All that fits: toy: shuffle-images 0.4 (unit: images), sgr, budget 4</summary>" in shown
    assert "<p>Forgiving wrong first hits that fit leaves the order of the 3 methods by R@1" in shown
    assert "<em>All that fits</em>: a caption fits an image if" in shown
    for folder in folders:
        (folder / "result.json").unlink()
    record()
    (board,) = leaderboards(load_runs(tmp_path))
    for without in (page(board), html_page([(board, [])], tmp_path)):
        assert "All that fits" not in without
