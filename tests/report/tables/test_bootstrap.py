"""Significant differences: the bootstrap against a naive one, and the places that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncbench.evaluation.retrieval import Ranks
from ncbench.records.arrays import RANKS_FILE, save_ranks
from ncbench.records.table import load_runs
from ncbench.report.tables.bootstrap import Bootstrap, Difference, scores
from ncbench.report.tables.comparisons import comparisons

QUERIES = 200


def ranks(share: float, seed: int = 0, queries: int = QUERIES) -> Ranks:
    """Return ranks of which about `share` are 0, and the others far behind."""
    rng = np.random.default_rng(seed)
    return Ranks(*((np.where(rng.random(queries) < share, 0, 50),) for _ in range(2)))


def method(share: float, seeds: int = 3, start: int = 0) -> dict[int, Ranks]:
    return {seed: ranks(share, start + seed) for seed in range(seeds)}


@given(st.lists(st.lists(st.integers(0, 12), min_size=3, max_size=3), min_size=1, max_size=4))
def test_scores_sum_up_to_the_recalls(folds: list[list[int]]) -> None:
    parts = [np.array(fold) for fold in folds]
    found = Ranks(tuple(parts), tuple(parts)).retrieval().i2t
    assert 100 * scores(parts).mean() == pytest.approx(found.r1 + found.r5 + found.r10)


def test_folds_of_unequal_size_weigh_the_same() -> None:
    parts = [np.array([0]), np.array([20, 20, 20])]
    assert scores(parts).mean() == pytest.approx(np.mean([3, 0]))


def test_resamples_are_those_of_a_naive_bootstrap() -> None:
    held = {"a": method(0.5)}
    bootstrap = Bootstrap(held, resamples=400)
    found = bootstrap._rsums("a", (0, 1, 2))
    rng = np.random.default_rng(1)
    naive = []
    for _ in range(400):
        seeds, total = rng.integers(3, size=3), 0.0
        for side in ("i2t", "t2i"):
            queries = rng.integers(QUERIES, size=QUERIES)
            values = [3.0 * (getattr(held["a"][int(seed)], side)[0][queries] == 0) for seed in seeds]
            total += 100 * float(np.mean(values))
        naive.append(total)
    assert found.mean() == pytest.approx(np.mean(naive), rel=0.02)
    assert found.std() == pytest.approx(np.std(naive), rel=0.15)


def test_only_large_differences_are_significant() -> None:
    bootstrap = Bootstrap({"good": method(0.8), "bad": method(0.5, start=10), "also bad": method(0.5, start=20)})
    assert bootstrap.differ("good", "bad")
    assert bootstrap.differ("bad", "good")
    assert not bootstrap.differ("bad", "also bad")
    assert not bootstrap.differ("bad", "bad")


def test_pairs_are_compared_query_by_query() -> None:
    """A method slightly better at every hard query differs significantly, although queries vary much."""
    one = method(0.5, seeds=1)[0]
    better = Ranks(*((np.where(np.arange(QUERIES) < 12, 0, side[0]),) for side in (one.i2t, one.t2i)))
    assert Bootstrap({"one": {0: one}, "better": {0: better}}).differ("one", "better")
    other = {0: ranks(0.55, 99)}  # as much better on average, at other queries
    assert not Bootstrap({"one": {0: one}, "other": other}).differ("one", "other")


def test_seeds_that_disagree_separate_nothing() -> None:
    up, down = ranks(0.9, 1), ranks(0.1, 2)
    assert not Bootstrap({"a": {0: up, 1: down, 2: up}, "b": {0: down, 1: up, 2: down}}).differ("a", "b")


def test_only_seeds_of_both_count() -> None:
    held = {"a": {0: ranks(0.9, 1), 1: ranks(0.1, 2)}, "b": {0: ranks(0.5, 3)}, "c": {5: ranks(0.1, 3)}}
    assert Bootstrap(held).differ("a", "b")
    assert not Bootstrap(held).differ("a", "c")


def test_places() -> None:
    held = {"best": method(0.9), "good": method(0.6, start=10), "fair": method(0.59, start=20), "bad": method(0.1)}
    rsums = {name: np.mean([r.retrieval().rsum for r in runs.values()]) for name, runs in held.items()}
    assert Bootstrap(held).places(rsums) == {"best": (1, 1), "good": (2, 3), "fair": (2, 3), "bad": (4, 4)}


def test_a_difference_is_the_mean_over_common_seeds_and_its_quantiles() -> None:
    held = {
        "a": {0: ranks(0.9, 1), 1: ranks(0.8, 2)},
        "b": {1: ranks(0.5, 3), 2: ranks(0.1, 4)},
        "c": {9: ranks(0.1, 5)},
    }
    bootstrap = Bootstrap(held)
    found = bootstrap.difference("a", "b")
    assert found is not None
    assert found.seeds == 1
    assert found.mean == pytest.approx(held["a"][1].retrieval().rsum - held["b"][1].retrieval().rsum)
    assert found.low < found.mean < found.high
    assert found.significant
    assert bootstrap.difference("b", "a") == Difference(
        pytest.approx(-found.mean), pytest.approx(-found.high), pytest.approx(-found.low), 1
    )
    assert found.reversed.reversed == found
    assert bootstrap.difference("a", "c") is None


def test_places_are_those_of_pairwise_tests() -> None:
    held = {str(n): method(0.3 + 0.05 * n, start=7 * n) for n in range(6)}
    rsums = {name: np.mean([r.retrieval().rsum for r in runs.values()]) for name, runs in held.items()}
    bootstrap = Bootstrap(held)
    for name, (first, last) in bootstrap.places(rsums).items():
        others = [other for other in held if other != name and bootstrap.differ(name, other)]
        assert first == 1 + sum(rsums[other] > rsums[name] for other in others)
        assert last == 6 - sum(rsums[other] < rsums[name] for other in others)
        assert first <= last


def test_the_same_ranks_give_the_same_places() -> None:
    held = {str(n): method(0.5 + 0.02 * n, start=7 * n) for n in range(4)}
    rsums = {name: np.mean([r.retrieval().rsum for r in runs.values()]) for name, runs in held.items()}
    assert Bootstrap(held).places(rsums) == Bootstrap(dict(reversed(held.items()))).places(rsums)


def test_places_in_a_table(record: Callable[..., Path], tmp_path: Path) -> None:
    shares: Mapping[str, float] = {"a": 0.9, "b": 0.5, "c": 0.5, "oracle": 0.95, "old": 0.8}
    for name, share in shares.items():
        for seed in range(2):
            drawn = ranks(share, seed + 10 * len(name) + ord(name[0]))
            retrieval = drawn.retrieval()
            values = [getattr(side, key) for side in (retrieval.i2t, retrieval.t2i) for key in ("r1", "r5", "r10")]
            folder = record(*values, method=name, seed=seed, told_truth=name == "oracle")
            if name != "old" or seed:  # a record of it lacks its ranks
                save_ranks(folder / RANKS_FILE, drawn)
    (table,) = comparisons(load_runs(tmp_path))
    rows = [(row["variant"], row["place"]) for row in table.rows.to_dict(orient="records")]
    assert [name for name, _ in rows[:2]] == ["a", "old"]
    spans = {row["variant"]: row["last_place"] for row in table.rows.to_dict(orient="records")}
    assert (spans["a"], spans["b"], spans["c"]) == (1, 3, 3)
    assert {cells[0]: cells[1] for cells in table.cells()}["b"] == "2\N{EN DASH}3"
    places = {name: None if place != place else int(place) for name, place in rows}
    assert places == {"a": 1, "old": None, "b": 2, "c": 2, "oracle": None}
    assert {cells[0]: cells[1] for cells in table.cells()}["oracle (sees ground truth)"] == "-"
