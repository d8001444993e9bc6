"""The answer of a leaderboard: the best method, its lead, and whether that is sure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncbench.evaluation.retrieval import Ranks
from ncbench.records.arrays import RANKS_FILE, save_ranks
from ncbench.records.table import load_runs
from ncbench.report.tables.answers import COLUMNS, Answer, answers, listed, summary
from ncbench.report.tables.comparisons import comparisons
from ncbench.report.tables.overview import overviews

Record = Callable[..., Path]
QUERIES = 400


@pytest.fixture
def ranked(record: Record) -> Callable[..., None]:
    """Return a function that writes a run whose queries succeed with a probability."""

    def write(share: float, seed: int = 0, **axes: Any) -> None:
        rng = np.random.default_rng([seed, round(1000 * share)])
        drawn = Ranks(*((np.where(rng.random(QUERIES) < share, 0, 50),) for _ in "ab"))
        found = drawn.retrieval()
        values = [getattr(side, key) for side in (found.i2t, found.t2i) for key in ("r1", "r5", "r10")]
        save_ranks(record(*values, seed=seed, **axes) / RANKS_FILE, drawn)

    return write


def answer(folder: Path) -> Answer:
    (found,) = answers(comparisons(load_runs(folder)))
    return found


def test_a_clear_winner_is_sure(ranked: Callable[..., None], tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        ranked(0.9, seed, method="l2rm")
        ranked(0.5, seed, method="ncr")
        ranked(0.99, seed, method="oracle", told_truth=True)
    found = answer(tmp_path)
    assert (found.best, found.next_best, found.level, found.sure, found.verdict) == ("l2rm", "ncr", [], True, "yes")
    assert found.lead is not None
    assert found.lead.low < found.lead.mean < found.lead.high
    cells = dict(zip(COLUMNS, found.cells(), strict=True))
    assert cells["noise"] == "shuffle-images 0.4"
    assert cells["lead over the next (95 % interval)"].startswith(f"{found.lead.mean:+.1f} over ncr (+")
    assert found.sentence().startswith("At 40% noise (shuffle-images), use l2rm (rSum ")
    assert found.sentence().endswith("; it is significantly better than all others.")


def test_one_seed_is_not_sure(ranked: Callable[..., None], tmp_path: Path) -> None:
    ranked(0.9, method="l2rm")
    ranked(0.5, method="ncr")
    found = answer(tmp_path)
    assert (found.level, found.sure, found.verdict) == ([], False, "not over seeds: there is one")
    assert found.sentence().endswith("there is only one seed.")


def test_methods_with_one_seed_are_named(ranked: Callable[..., None], tmp_path: Path) -> None:
    for seed in (0, 1):
        ranked(0.9, seed, method="l2rm")
    ranked(0.5, 0, method="ncr")
    found = answer(tmp_path)
    assert (found.sure, found.verdict) == (False, "not over seeds: ncr has one")
    assert found.sentence().endswith("it leads on these test queries, but ncr has only one seed.")
    ranked(0.4, 0, method="gsc")
    assert answer(tmp_path).verdict == "not over seeds: ncr and gsc have one"


def test_methods_that_cannot_be_told_apart_are_named(ranked: Callable[..., None], tmp_path: Path) -> None:
    for seed in (0, 1):
        ranked(0.9, seed, method="l2rm")
        ranked(0.9, seed + 10, method="rcl")  # other seeds: not comparable
    assert answer(tmp_path).verdict == "not tested: no ranks of single queries"
    for seed in (0, 1):
        ranked(0.899, seed, method="rcl")
        ranked(0.3, seed, method="ncr")
    found = answer(tmp_path)
    other = ({"l2rm", "rcl"} - {found.best}).pop()
    assert (found.level, found.sure, found.verdict) == ([other], False, f"no: {other} may be as good")
    assert f"but that is not sure: {other} may be as good." in found.sentence()


def test_without_ranks_nothing_is_tested(record: Record, tmp_path: Path) -> None:
    record(method="a")
    record(*[1.0] * 6, method="b")
    found = answer(tmp_path)
    assert (found.best, found.tested, found.sure, found.cells()[-1]) == ("a", False, False, "-")
    assert "not tested" in found.sentence()


def test_references_answer_nothing(record: Record, tmp_path: Path) -> None:
    record(method="oracle", told_truth=True)
    tables = comparisons(load_runs(tmp_path))
    assert answers(tables) == []
    assert summary(tables, []) == "Only references were run: there is nothing to choose from."


def test_the_summary_is_about_the_usual_ratio_and_the_average(record: Record, tmp_path: Path) -> None:
    for noise in (0.2, 0.4, 0.6):
        record(*[20.0] * 6, method="a", noise=noise)
        record(*[10.0 + 30 * (noise == 0.6)] * 6, method="b", noise=noise)
    record(*[50.0] * 6, method="c", noise=0.4, protocol="shuffle-captions", unit="captions")
    frame = load_runs(tmp_path)
    text = summary(comparisons(frame), overviews(frame))
    assert text.startswith("At 40% noise (shuffle-images), use a (rSum 120.0)")
    assert text.endswith("On average over the ratios of shuffle-images, a leads with 120.0, 0.0 before b.")


def test_conditions_are_named_where_they_differ(record: Record, tmp_path: Path) -> None:
    record()
    record(backbone="vse")
    first, second = answers(comparisons(load_runs(tmp_path)))
    assert (first.noise, second.noise) == ("shuffle-images 0.4, sgr, budget 4", "shuffle-images 0.4, vse, budget 4")
    assert "(shuffle-images, vse, budget 4)" in second.sentence()


@pytest.mark.parametrize(
    ("names", "text"),
    [("a", "a"), ("ab", "a and b"), ("abc", "a, b and c"), ("abcde", "a, b and 3 more")],
)
def test_listed(names: str, text: str) -> None:
    assert listed(list(names)) == text
