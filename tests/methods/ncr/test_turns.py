"""Who trains when and on what, in NCR and BiCro, and the ends that a budget can have."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from epochs import train_epoch, train_epochs
from set_up import set_up, set_up_ncr
from torch import Tensor

from ncbench import Task
from ncbench.budget import BudgetSpent
from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import detect
from ncbench_methods._coteaching import CoTeaching
from ncbench_methods.bicro import BiCro
from ncbench_methods.ncr import NCR

MakeTask = Callable[..., Task]

both_methods = pytest.mark.parametrize("method", [NCR, BiCro])


@both_methods
def test_each_network_trains_on_the_split_of_the_other(
    method: type[CoTeaching], make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = set_up(method, make_task(), warmup=0.0, noisy_after=0.0)
    verdicts = [np.repeat([0.9, 0.1], [30, 18]), np.repeat([0.2, 0.7], [20, 28])]
    given = iter(verdicts)
    monkeypatch.setattr(made, "_posterior", lambda x: next(given))
    seen: list[tuple[int, list[int], list[float], list[int]]] = []
    update = made._update

    def spy(learner: int, clean: Any, p_clean: Any, noisy: Any) -> Any:
        seen.append((learner, clean.pairs.tolist(), p_clean.tolist(), noisy.pairs.tolist()))
        return update(learner, clean, p_clean, noisy)

    monkeypatch.setattr(made, "_update", spy)
    scalars = list(train_epoch(made, 0))
    assert [entry[0] for entry in seen] == [0, 1] * 4  # four batches each; one of B's last is not full
    assert all(entry["loss"] == entry["loss_clean"] + entry["loss_noisy"] for entry in scalars)
    for learner in (0, 1):
        p_clean = verdicts[1 - learner]
        clean = [pair for entry in seen if entry[0] == learner for pair in entry[1]]
        assert sorted(clean) == np.flatnonzero(p_clean > 0.5).tolist()
        noisy = [pair for entry in seen if entry[0] == learner for pair in entry[3]]
        n_noisy = (p_clean <= 0.5).sum()
        assert sorted(noisy[:n_noisy]) == np.flatnonzero(p_clean <= 0.5).tolist()  # each once before any comes again
        for entry in seen:
            assert entry[0] != learner or entry[2] == p_clean[entry[1]].tolist()
    np.testing.assert_allclose(made.pair_scores(), np.mean(verdicts, 0))


@both_methods
@pytest.mark.parametrize("with_noisy", [True, False])
@pytest.mark.parametrize("labels", ["correct", "released"])
def test_soft_labels_are_those_of_the_latest_epoch(
    with_noisy: bool, labels: str, method: type[CoTeaching], make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = set_up(method, make_task(), warmup=0.0, noisy_after=0.0 if with_noisy else 1.0, labels=labels)
    assert made.soft_labels() is None
    verdicts = [np.repeat([0.9, 0.1], [30, 18]), np.repeat([0.2, 0.7, 0.3], [20, 20, 8])]
    given = iter(verdicts * 2)
    monkeypatch.setattr(made, "_posterior", lambda x: next(given))
    used: dict[tuple[int, int], float] = {}
    step = made._step

    def spy(learner: int, batch: Any, labels: Tensor) -> float:
        """Note the label that each pair has in its own place of the batch."""
        for place, pair in enumerate(batch.pairs):
            row = labels if labels.ndim == 1 else labels[place if len(labels) > 1 else 0]
            used[learner, pair] = row[place if len(row) > 1 else 0].item()
        return step(learner, batch, labels)

    monkeypatch.setattr(made, "_step", spy)
    for epoch in range(2):
        used.clear()
        updates = train_epoch(made, epoch)
        next(updates)
        early = made.soft_labels()
        list(updates)
    untouched = [[verdicts[1 - learner][pair] for pair in range(48)] for learner in (0, 1)]
    expected = [[used.get((learner, pair), untouched[learner][pair]) for pair in range(48)] for learner in (0, 1)]
    found = made.soft_labels()
    np.testing.assert_allclose(found, np.mean(expected, 0), rtol=1e-6)
    assert ((found >= 0) & (found <= 1)).all()
    never = [pair for pair in range(48) if (0, pair) not in used and (1, pair) not in used]
    assert with_noisy or never  # pairs that both networks think noisy do not train yet
    assert found[never].tolist() == made.pair_scores()[never].tolist()
    assert (early == made.pair_scores()).sum() >= 48 - 16  # one update of one network: two batches at most


@both_methods
@pytest.mark.parametrize(
    ("n_clean", "with_noisy", "updates", "warm_ups"),
    [
        (48, False, 6, 0),  # one per cent is one pair, which makes no batch
        (47, False, 6, 0),
        (46, True, 6, 0),
        (17, True, 2, 0),  # the last batch, of one pair, is left out
        (2, True, 1, 0),
        (1, False, 0, 6),
        (0, False, 0, 6),
    ],
)
def test_sets_without_clean_or_noisy_batches(
    method: type[CoTeaching],
    n_clean: int,
    with_noisy: bool,
    updates: int,
    warm_ups: int,
    make_task: MakeTask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = set_up(method, make_task(), warmup=0.0, noisy_after=0.0)
    p_clean = (np.arange(48) < n_clean).astype(float)
    monkeypatch.setattr(made, "_posterior", lambda x: p_clean)
    asked: list[bool] = []
    update = made._update
    monkeypatch.setattr(made, "_update", lambda *given: (asked.append(given[3] is not None), update(*given))[1])
    scalars = list(train_epoch(made, 0))
    assert asked == [with_noisy] * 2 * updates
    assert sum("loss_clean" not in entry for entry in scalars) == 2 * warm_ups
    assert all(np.isfinite(entry["loss"]) for entry in scalars)


@both_methods
def test_a_network_without_clean_pairs_does_not_keep_the_other_from_training(
    method: type[CoTeaching], make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = set_up(method, make_task(), warmup=0.0)
    given = iter([np.zeros(48), np.repeat([0.9, 0.1], 24)])
    monkeypatch.setattr(made, "_posterior", lambda x: next(given))
    kinds = ["loss_clean" in entry for entry in train_epoch(made, 0)]
    assert kinds == [True, False] * 3 + [False] * 3


@both_methods
def test_phases_follow_the_budget(method: type[CoTeaching], make_task: MakeTask) -> None:
    made = set_up(method, make_task(budget=16.0), warmup=0.3, noisy_after=0.4, margin=2.0)
    share, phases = 0.0, []
    for entry in train_epochs(made):
        phase = "warm-up" if "loss_clean" not in entry else "noisy" if entry["loss_noisy"] else "clean"
        phases.append((phase, share))
        share = made.task.budget.progress
    shares = {phase: [at for name, at in phases if name == phase] for phase in ("warm-up", "clean", "noisy")}
    one_scan = 2 / 3 / 16
    assert max(shares["warm-up"]) < 0.3 <= max(shares["warm-up"]) + 1 / 60  # six updates make an epoch
    assert min(shares["clean"]) >= 0.3
    assert max(shares["clean"]) < 0.3 + 0.4 * 0.7 <= min(shares["noisy"]) + one_scan + 1e-9


@both_methods
@pytest.mark.parametrize("budget", [1.0, 2.6, 4.1, 5.0, 6.3])
def test_both_networks_get_equal_work_wherever_the_budget_ends(
    method: type[CoTeaching], budget: float, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = set_up(method, make_task(budget=budget), warmup=0.3)
    half = np.repeat([0.9, 0.1], 24)
    monkeypatch.setattr(made, "_posterior", lambda x: half)
    counts = [0, 0]
    for learner in (0, 1):

        def step(loss: Tensor, learner: int = learner, original: Any = made.optimisers[learner].step) -> None:
            counts[learner] += 1
            original(loss)

        monkeypatch.setattr(made.optimisers[learner], "step", step)
    assert list(train_epochs(made))
    assert min(counts) > 0
    assert abs(counts[0] - counts[1]) <= 2  # an update has up to two steps
    assert made.task.budget.used <= made.task.budget.total
    for network in made.networks:
        assert all(weight.grad is None or not weight.grad.any() for weight in network.parameters())


@both_methods
def test_no_beliefs_before_the_first_split_and_whole_ones_after(
    method: type[CoTeaching], make_task: MakeTask, noisy: np.ndarray
) -> None:
    made = set_up(method, make_task(budget=8.0, claimed=noisy), warmup=0.2)
    list(train_epoch(made, 0))
    assert made.pair_scores() is None
    assert made.rematches() is None
    next(train_epoch(made, 1))
    scores = made.pair_scores()
    assert (scores.shape, scores.dtype) == ((48,), np.float64)
    assert scores.min() >= 0
    assert scores.max() <= 1
    made.task.budget.used = made.task.budget.total  # the next scan cannot be paid
    with pytest.raises(BudgetSpent):
        next(train_epoch(made, 2))
    assert np.array_equal(made.pair_scores(), scores)


class OracleNetwork(torch.nn.Module):
    """One who knows: the share of the named shapes that an image shows."""

    def forward(self, images: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        seen = images.round().sum(1)  # (I, shapes)
        said = torch.stack([(tokens == 4 + shape).sum(1) for shape in range(6)], 1).float()
        return 0.1 + 0.8 * torch.minimum(seen[:, None], said).sum(-1) / said.sum(-1)


@both_methods
def test_oracles_tell_clean_pairs_from_noisy_ones(
    method: type[CoTeaching], tiny: Dataset, make_task: MakeTask, noisy: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = set_up(method, make_task(claimed=noisy), warmup=0.0, batch_size=16)
    made.networks = [OracleNetwork(), OracleNetwork()]
    monkeypatch.setattr(made, "_update", lambda *given: {"loss": 0.0})
    assert list(train_epoch(made, 0))
    clean = noisy == tiny.splits["train"].true
    found = detect(made.pair_scores(), clean)
    assert found.auc > 0.9
    assert (made.pair_scores()[clean] > 0.5).mean() > 0.9


@both_methods
@pytest.mark.parametrize("warmup", [0.0, 0.015])
def test_a_state_continues_bit_by_bit(
    method: type[CoTeaching], warmup: float, make_task: MakeTask, noisy: np.ndarray
) -> None:
    through = set_up(method, make_task(claimed=noisy), warmup=warmup, noisy_after=0.0)
    list(train_epoch(through, 0))
    state, used = through.state_dict(), through.task.budget.used
    list(train_epoch(through, 1))

    resumed = set_up(method, make_task(claimed=noisy), warmup=warmup, noisy_after=0.0)
    for weight in (weight for network in resumed.networks for weight in network.parameters()):
        weight.data.zero_()
    resumed.load_state_dict(state)
    resumed.task.budget.used = used
    scores = resumed.pair_scores()
    assert (scores is None) == (warmup > 0)
    list(train_epoch(resumed, 1))
    for ours, theirs in zip(through.networks, resumed.networks, strict=True):
        for key, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[key]), key
    assert np.array_equal(through.p_clean, resumed.p_clean)
    assert through.orders[1].random() == resumed.orders[1].random()


@both_methods
def test_networks_train_in_training_mode_and_judge_in_evaluation_mode(
    method: type[CoTeaching], make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = set_up(method, make_task(backbone="saf"), warmup=0.0, noisy_after=0.0)
    monkeypatch.setattr(made, "_posterior", lambda x: np.repeat([0.9, 0.1], 24))
    for network in made.networks:
        encode = network.encode_images

        def spy(images: Tensor, network: Any = network, encode: Any = encode) -> Any:
            assert network.training == torch.is_grad_enabled()
            return encode(images)

        monkeypatch.setattr(network, "encode_images", spy)
    assert len(list(train_epoch(made, 0))) == 6


@both_methods
@pytest.mark.parametrize("backbone", ["sgr", "vse-infinity"])
def test_released_and_correct_labels_train_differently(
    method: type[CoTeaching], backbone: str, make_task: MakeTask
) -> None:
    ends = []
    for labels in ("correct", "released", "correct"):
        made = set_up(method, make_task(backbone=backbone), warmup=0.0, labels=labels, noisy_after=0.0)
        assert all(np.isfinite(entry["loss"]) for entry in islice(train_epoch(made, 0), 3))
        ends.append(torch.cat([weight.detach().flatten() for weight in made.networks[0].parameters()]))
    assert torch.equal(ends[0], ends[2])
    assert (ends[0] - ends[1]).abs().max() > 1e-4


def test_an_epoch_of_ncr_costs_what_is_needed(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """In passes over the pairs, forward 1, with backward 3: scans 2; per network 4 on clean pairs, 5 on noisy ones."""
    for noisy_after, expected in ((1.0, 2 + 2 * 4 / 2), (0.0, 2 + 2 * (4 + 5) / 2)):
        made = set_up_ncr(make_task(), noisy_after=noisy_after)
        half = np.tile([0.9, 0.1], 24)  # one caption of every image
        monkeypatch.setattr(made, "_posterior", lambda x, half=half: half)
        list(train_epoch(made, 0))
        assert made.task.budget.progress * 100 * 3 == pytest.approx(expected, rel=0.03)  # lengths differ
