"""Plain co-teaching: who picks, who trains on what, and how much is forgotten."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from epochs import train_epoch
from set_up import set_up

from ncbench import Task, losses
from ncbench.data.dataset import Dataset
from ncbench_methods.coteaching import CoTeaching, pair_entropies, smallest

MakeTask = Callable[..., Task]

make = partial(set_up, CoTeaching)


def test_the_mean_of_pair_entropies_is_info_nce() -> None:
    S = torch.rand((6, 6), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = pair_entropies(S, 0.2)
    assert found.mean().item() == pytest.approx(losses.info_nce(S, 0.2).item())
    rows, columns = (S / 0.2).softmax(1), (S / 0.2).softmax(0)
    assert found[2].item() == pytest.approx(-(rows[2, 2].log() + columns[2, 2].log()).item())


def test_the_smallest_are_picked_and_of_equal_ones_the_first() -> None:
    assert smallest(torch.tensor([3.0, 1.0, 2.0, 1.0, 1.0]), 2).tolist() == [1, 3]


def test_each_network_trains_on_what_the_other_picks(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """One update against plain loops: same batch, both networks, picks swapped."""
    method = make(make_task(), forget=0.5, gradual=0.0, tau=0.1)
    batch = method.task.data.batch(np.arange(0, 16, 2))
    before = [[float(x) for x in pair_entropies(net(*batch.inputs).detach(), 0.1)] for net in method.networks]
    trained: dict[int, float] = {}
    for number, optimiser in enumerate(method.optimisers):
        monkeypatch.setattr(optimiser, "step", lambda loss, number=number: trained.update({number: loss.item()}))
    monkeypatch.setattr(method.task.data, "batches", lambda *_: iter([batch]))
    (scalars,) = train_epoch(method, 0)
    picks = [sorted(range(8), key=lambda pair, values=values: values[pair])[:4] for values in before]
    assert picks[0] != picks[1]
    for learner in (0, 1):
        expected = np.mean([before[learner][pair] for pair in picks[1 - learner]])
        assert trained[learner] == pytest.approx(expected, rel=1e-5)
    assert scalars["loss"] == pytest.approx(np.mean(before), rel=1e-5)
    assert scalars["share_kept"] == 0.5
    scores = method.pair_scores()
    assert scores is not None
    for place, pair in enumerate(batch.pairs):
        assert scores[pair] == (place in picks[0]) / 2 + (place in picks[1]) / 2
    unseen = np.setdiff1d(np.arange(48), batch.pairs)
    assert (scores[unseen] == 1).all()


def test_no_beliefs_before_the_first_update(make_task: MakeTask) -> None:
    assert make(make_task()).pair_scores() is None


@pytest.mark.parametrize(
    ("progress", "kept"),
    [(0.0, 100), (0.05, 90), (0.1, 80), (1.0, 80)],
)
def test_the_forgotten_share_grows_and_stays(progress: float, kept: int, make_task: MakeTask) -> None:
    method = make(make_task(), forget=0.2, gradual=0.1)

    class Spent:
        pass

    spent: Any = Spent()
    spent.progress = progress
    object.__setattr__(method.task, "budget", spent)
    assert method._kept(100) == kept
    assert method._kept(1) == 1


def test_two_networks_cost_twice_as_much(make_task: MakeTask, tiny: Dataset) -> None:
    """A budget of two baseline epochs is one epoch of two networks."""
    method = make(make_task(budget=2.0))
    updates = list(train_epoch(method, 0))
    assert len(updates) == 6
    assert method.task.budget.progress == pytest.approx(1.0, abs=0.02)


def test_published_settings() -> None:
    config = CoTeaching.Config()
    assert (config.forget, config.gradual) == (0.2, 10 / 200)
    with pytest.raises(ValueError, match=r"^forget must be at most 0\.9"):
        CoTeaching.Config(forget=1.0)
