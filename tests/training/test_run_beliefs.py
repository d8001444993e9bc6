"""What a run believed about its pairs: not charged, and judged by ground truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from believers import execute, judged_rematches, stated

from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import detect, rank_correlation
from ncbench.records.arrays import load_beliefs, load_retrieved
from ncbench.records.record import Record


def test_beliefs_are_not_charged(tiny: Dataset, tmp_path: Path) -> None:
    _, result = execute(tiny, tmp_path, "believer", budget=0.7)
    assert result["beliefs"]
    assert result["work"]["used"] == Record(tmp_path).history_lines()[-1]["work"]


def test_the_truth_stands_beside_beliefs(tiny: Dataset, tmp_path: Path) -> None:
    run, _ = execute(tiny, tmp_path, "triplet", budget=0.5, ratio=0.5)
    clean = load_beliefs(tmp_path / "beliefs.npz").clean
    assert clean is not None
    np.testing.assert_array_equal(clean, run.noise.claimed == tiny.splits["train"].true)
    found = load_retrieved(tmp_path / "retrieved.npz")
    np.testing.assert_array_equal(found.true, tiny.splits["test"].true)
    execute(replace(tiny, truth_known=False), tmp_path / "natural", "triplet", budget=0.5, ratio=0.5)
    assert load_beliefs(tmp_path / "natural" / "beliefs.npz").clean is None


def test_beliefs_are_judged_by_the_truth(tiny: Dataset, tmp_path: Path) -> None:
    run, result = execute(tiny, tmp_path, "believer", budget=0.5)
    true, claimed = tiny.splits["train"].true, run.noise.claimed
    scores, _ = stated(run)
    detection = detect(scores, claimed == true)
    assert result["beliefs"]["detection"] == asdict(detection)
    assert result["beliefs"]["detection"]["mismatched"] == int((claimed != true).sum())
    assert result["beliefs"]["rematches"] == judged_rematches(run, tiny)
    assert result["beliefs"]["rematches"]["count"] == 2


def test_soft_labels_are_judged_by_the_truth_and_by_the_meaning_of_mismatched_pairs(
    tiny: Dataset, tmp_path: Path
) -> None:
    run, result = execute(tiny, tmp_path, "believer", budget=0.5)
    true, claimed = tiny.splits["train"].true, run.noise.claimed
    labels, wrong = stated(run)[0] ** 2, np.flatnonzero(claimed != true)
    follows = rank_correlation(labels[wrong], tiny.semantics.closeness("train", wrong, claimed[wrong]))
    assert follows is not None
    found = result["beliefs"]["soft_labels"]
    assert found == {**asdict(detect(labels, claimed == true)), "closeness_correlation": follows}


@pytest.mark.parametrize("method", ["ncr", "bicro"])
def test_methods_with_soft_labels_tell_them(method: str, tiny: Dataset, tmp_path: Path) -> None:
    run, result = execute(tiny, tmp_path, method, budget=4)
    labels = run.numbering.restored(run.trainers[0].method.soft_labels())
    assert result["beliefs"]["soft_labels"]["auc"] == detect(labels, run.noise.clean(tiny.splits["train"].true)).auc
    assert not np.array_equal(labels, run.numbering.restored(run.trainers[0].method.pair_scores()))


def test_what_is_unknown_is_not_judged(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    _, result = execute(make_dataset(semantics=None), tmp_path / "a", "believer", budget=0.5)
    assert set(result["beliefs"]) == {"detection", "soft_labels"}
    assert result["beliefs"]["soft_labels"]["closeness_correlation"] is None
    _, result = execute(make_dataset(truth_known=False), tmp_path / "b", "believer", budget=0.5, ratio=0.0)
    assert (result["mismatched"], result["beliefs"]) == (None, {})


def test_l2rm_tells_what_it_believes(tiny: Dataset, tmp_path: Path) -> None:
    _, result = execute(tiny, tmp_path, "l2rm", budget=4)
    assert result["beliefs"]["detection"]["pairs"] == 48
    assert result["beliefs"]["rematches"]["count"] > 0
