"""Correspondences of CRCL over its stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from epochs import train_epochs
from set_up import set_up_crcl
from torch import Tensor

from ncbench import Task
from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import detect
from ncbench_methods.crcl import CRCL

MakeTask = Callable[..., Task]

TAU = 0.05


def test_decay_of_a_pair_that_never_matches(make_task: MakeTask) -> None:
    method = set_up_crcl(make_task())
    method.stage = 1
    pair = np.array([3])
    found = [method._refine(pair, np.array([0.2]), warming_up=False)[0] for _ in range(8)]
    expected = [0.84, 0.712, 0.6096, 0.52768, 0.462144, 0.409715, 0.367772, 0.334218]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    scores = method.pair_scores()
    assert scores[3] == found[-1]
    assert (np.delete(scores, 3) == 1).all()
    method._refine(pair, np.array([0.2]), warming_up=False)
    assert scores[3] == found[-1]  # what was told stays as it was


def test_an_update_of_a_worked_example(make_task: MakeTask) -> None:
    method = set_up_crcl(make_task())
    pairs = np.array([4, 0, 9])
    method.y[pairs] = [1, 1, 0.3]
    found = method._refine(pairs, np.array([0.976096, 0.487073, 0.389150]), warming_up=False)
    np.testing.assert_allclose(found, [0.995219, 0.897415, 0.317830], atol=1e-6)
    np.testing.assert_array_equal(method.y[pairs], found)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_what_is_used_and_what_is_kept(stage: int, make_task: MakeTask) -> None:
    method = set_up_crcl(make_task(), alpha=0.5, confident=0.3)
    method.stage = stage
    pairs, matching = np.arange(4), np.array([0.0, 0.25, 0.5, 1.0])

    def refine(warming_up: bool) -> tuple[list[float], list[float]]:
        method.y[:4] = [0.2, 0.3, 0.9, 0.0]
        return method._refine(pairs, matching, warming_up).tolist(), method.y[:4].tolist()

    assert refine(False) == ([0.0, 0.0, 0.7, 0.5], [0.0, 0.0, 0.7, 0.5])
    if stage == 0:
        assert refine(True) == ([1.0] * 4, matching.tolist())  # as it is, the small ones too
    else:
        assert refine(True) == ([0.0, 0.3, 0.9, 0.0], [0.0, 0.3, 0.9, 0.0])
    assert (method.y[4:] == 1).all()


class Watch:
    """Follows a method: per update its stage, pairs, warm-up, matching probabilities, y, share of the budget."""

    def __init__(self, method: CRCL) -> None:
        self.method, self.seen = method, []  # type: ignore[var-annotated]
        refine = method._refine

        def spy(pairs: np.ndarray, matching: np.ndarray, warming_up: bool) -> np.ndarray:
            used = refine(pairs, matching, warming_up)
            share = method.task.budget.progress
            self.seen.append((method.stage, pairs.copy(), warming_up, matching.copy(), used.copy(), share))
            return used

        method._refine = spy  # type: ignore[method-assign]


@pytest.mark.parametrize(("budget", "warmup"), [(20.0, 0.1), (20.0, 0.01), (12.0, 0.0)])
def test_correspondences_over_all_stages(budget: float, warmup: float, make_task: MakeTask) -> None:
    """Replays what the network said by the published rules, written out."""
    task = make_task(budget)
    method = set_up_crcl(task, warmup=warmup, lr=3e-2)
    watch = Watch(method)
    updates = len(list(train_epochs(method)))
    assert len(watch.seen) == updates
    y, before = np.ones(48), 0.0
    warm_updates: Counter[int] = Counter()
    for number, (stage, pairs, warming_up, matching, used, share) in enumerate(watch.seen):
        assert stage == (0 if before < 0.2 else 1 if before < 0.4 else 2)
        first_epoch = number < 6 and warmup > 0
        assert warming_up == (before - 0.2 * stage < warmup - 1e-12 or first_epoch)
        warm_updates[stage] += warming_up
        for pair, phat, label in zip(pairs, matching, used, strict=True):
            if stage == 0 and warming_up:
                expected, y[pair] = 1.0, phat
            else:
                expected = y[pair] if warming_up else 0.8 * y[pair] + 0.2 * phat
                expected = 0.0 if expected < 0.1 else expected
                y[pair] = expected
            assert label == pytest.approx(expected, abs=1e-12)
        before = share
    np.testing.assert_allclose(method.pair_scores(), y, atol=1e-12)
    assert watch.seen[-1][0] == 2
    assert warm_updates[0] in {0.1: (12, 13, 14), 0.01: (6,), 0.0: (0,)}[warmup]
    assert (warm_updates[1] > 0) == (warm_updates[2] > 0) == (warmup > 0)


def test_matching_probabilities_are_those_of_the_augmented_batch_in_training(make_task: MakeTask) -> None:
    method = set_up_crcl(make_task(backbone="saf"))
    watch = Watch(method)
    seen: list[tuple[bool, Tensor, Tensor, Tensor]] = []
    method.backbone.register_forward_hook(
        lambda net, given, S: seen.append((net.training, given[0], given[1], S.detach()))
    )
    method.backbone.eval()
    list(train_epochs(method, range(2)))
    assert len(seen) == len(watch.seen) > 0
    for (training, images, tokens, S), (_, pairs, _, matching, _, _) in zip(seen, watch.seen, strict=True):
        assert training
        batch = method.task.data.batch(pairs)
        assert tokens.shape != batch.tokens.shape or (tokens != batch.tokens).any()
        assert ((images == batch.images) | (images == 1e-10)).all()
        assert (images == 1e-10).any()
        rows, columns = ((S.double() / TAU).softmax(way).diagonal() for way in (1, 0))
        np.testing.assert_allclose(matching, (rows + columns) / 2, rtol=1e-4, atol=1e-7)


def test_the_learning_rate_falls_within_a_stage_and_starts_anew(make_task: MakeTask) -> None:
    task = make_task(10.0)
    method = set_up_crcl(task, decay_every=0.15)
    before = 0.0
    rates = set()
    for _ in train_epochs(method):
        stage = min(int(before / 0.2), 2)
        cuts = int((task.budget.progress - 0.2 * stage) / 0.15)  # an update is at the rate of its end
        assert method.optimiser.lr == pytest.approx(1e-2 * 0.1**cuts)
        rates.add((stage, cuts))
        before = task.budget.progress
    assert rates >= {(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3)}


def test_correspondences_tell_clean_pairs_from_noisy_ones(
    tiny: Dataset, noisy: np.ndarray, make_task: MakeTask
) -> None:
    method = set_up_crcl(make_task(60.0, claimed=noisy), drop=0.05, change=0.05)
    list(train_epochs(method))
    found = detect(method.pair_scores(), noisy == tiny.splits["train"].true)
    assert found.auc > 0.8
