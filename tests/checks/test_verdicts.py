"""Verdicts: passed, failed and skipped checks, and messages of unexpected errors."""

from __future__ import annotations

import numpy as np
import pytest

from ncbench.checks.method.learning import chance_rsum
from ncbench.checks.shapes import Shapes
from ncbench.checks.verdicts import FIX_THE_LINE, Check, Failed, Skipped, judge
from ncbench.data.dataset import Dataset
from ncbench.errors import error_with_location
from ncbench.evaluation.retrieval import evaluate
from ncbench.runtime.sameness import differences


def check(name: str, outcome: object, after: tuple[str, ...] = ()) -> Check[int]:
    def examine(subject: int) -> str:
        if isinstance(outcome, Exception):
            raise outcome
        return f"{outcome} {subject}"

    return Check(name, "p", "r", examine, after)


def test_outcomes() -> None:
    checks = [
        check("a", "fine"),
        check("b", Failed("bad")),
        check("c", Skipped("no use")),
        check("d", ZeroDivisionError("by\nzero")),
        check("e", "fine", after=("a", "c")),
        check("f", "fine", after=("a", "b")),
        check("g", "fine", after=("f",)),
    ]
    found = {verdict.check: (verdict.outcome, verdict.detail) for verdict in judge(checks, 7)}
    assert found.pop("d")[1].startswith("ZeroDivisionError: by zero (test_verdicts.py, line ")
    assert found == {
        "a": ("pass", "fine 7"),
        "b": ("fail", "bad"),
        "c": ("skipped", "no use"),
        "e": ("pass", "fine 7"),
        "f": ("skipped", "requires b to pass"),
        "g": ("skipped", "requires f to pass"),
    }


def test_remedies_fit_the_failure() -> None:
    def broken(subject: int) -> str:
        raise ZeroDivisionError

    checks = [
        check("general", Failed("bad")),
        check("special", Failed("bad", "do this")),
        Check("line", "p", "r", broken),
        check("not there", "fine", after=("special",)),
    ]
    assert [verdict.remedy for verdict in judge(checks, 7)] == ["r", "do this", FIX_THE_LINE, "r"]


def test_an_error_of_a_library_has_no_location() -> None:
    with pytest.raises(ValueError, match="x") as caught:
        raise ValueError("x")
    caught.value.__traceback__ = None
    assert error_with_location(caught.value) == "ValueError: x"


def test_differences_of_lists_and_nan() -> None:
    assert differences({"a": [1, float("nan")]}, {"a": [1, float("nan")]}) == []
    assert differences({"a": [1, 2]}, {"a": [1, 3]}) == ["['a'][1]"]
    assert differences({"a": 1, "b": 2}, {"b": 2, "a": 1}) == [": keys in a different order"]
    assert differences([1], [1, 2]) == [": 1 and 2 items"]
    assert differences(1, 1.0) == [": int and float"]
    assert differences(np.zeros(2), np.zeros(2, np.float32)) == [""]


def test_chance_is_what_random_scores_reach(tiny: Dataset) -> None:
    rng = np.random.default_rng(0)
    for dataset in (tiny, Shapes().load()):
        split = dataset.splits["test"]
        shape = (len(split.images), len(split.captions))
        found = np.mean([evaluate(rng.random(shape, np.float32), split.true).rsum for _ in range(400)])
        assert found == pytest.approx(chance_rsum(split), rel=0.02)


def test_shapes() -> None:
    dataset = Shapes().load()
    assert dataset.digest == Shapes().load().digest != Shapes(seed=6).load().digest
    assert len(dataset.splits["train"].captions) == 256
    one = Shapes(regions=1).load()
    assert (one.n_regions, one.image_dim) == (1, 11)
    with pytest.raises(ValueError, match="3 kinds of shapes give 10 distinct images"):
        Shapes(kinds=3).load()
