"""NCR, and what it shares with BiCro: splits, who trains when and on what, and the ends that a budget can have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from epochs import train_epoch
from numpy.typing import NDArray
from torch import Tensor

from ncbench import Task, losses
from ncbench.budget import BudgetSpent
from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import detect
from ncbench.noise.registry import draw_noise
from ncbench_methods._coteaching import CoTeaching, agreement, hinge_max_by_entry, split
from ncbench_methods.bicro import BiCro
from ncbench_methods.ncr import NCR, clean_labels, predict

MakeTask = Callable[..., Task]

S = torch.tensor([[0.70, 0.55, 0.20], [0.30, 0.60, 0.65], [0.10, 0.45, 0.50]], dtype=torch.float64)
FOUND = np.array([0, 0.03, 0.05, 0.08, 0.10, 0.12, 0.15, 0.20, 0.45, 0.55, 0.62, 0.70, 0.80, 1])

both_methods = pytest.mark.parametrize("method", [NCR, BiCro])


def make(task: Task, method: type[CoTeaching] = NCR, **settings: Any) -> Any:
    made = method(method.Config(**{"batch_size": 8, "warmup": 0.0, "lr": 1e-2, **settings}))
    made.setup(task)
    return made


def updates(made: CoTeaching) -> Iterator[Any]:
    """Yield the scalars of all updates until the budget is spent."""
    try:
        for epoch in range(1000):
            yield from train_epoch(made, epoch)
    except BudgetSpent:
        return
    raise AssertionError("the budget is never spent")


@pytest.fixture
def noisy(tiny: Dataset) -> np.ndarray:
    return draw_noise("shuffle-captions", 0.4, tiny.splits["train"], 1).claimed


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive_hinge(scores: Tensor, rows: Callable[[int, int], float], columns: Callable[[int, int], float]) -> float:
    """Hardest negatives; margins of image i against caption j by the two functions."""
    n, total = len(scores), 0.0
    for k in range(n):
        total += max(max(0.0, rows(k, j) + scores[k, j].item() - scores[k, k].item()) for j in range(n) if j != k)
        total += max(max(0.0, columns(i, k) + scores[i, k].item() - scores[k, k].item()) for i in range(n) if i != k)
    return total


def naive_losses(scores: Tensor, margin: float) -> list[float]:
    n, found = len(scores), []
    for k in range(n):
        costs = [max(0.0, margin + scores[k, j].item() - scores[k, k].item()) for j in range(n) if j != k]
        costs += [max(0.0, margin + scores[i, k].item() - scores[k, k].item()) for i in range(n) if i != k]
        found.append(sum(costs) / n)
    return found


def naive_agreement(scores: Tensor, margin: float) -> list[float]:
    return [min(margin, max(0.0, margin - loss / 2)) for loss in naive_losses(scores, margin)]


# Labels and losses.


def test_worked_example_of_predictions() -> None:
    torch.testing.assert_close(agreement(S, 0.2), torch.tensor([0.191667, 0.125, 0.116667]).double(), atol=1e-6, rtol=0)
    expected = torch.tensor([1, 0.652174, 0.608696]).double()
    torch.testing.assert_close(predict(S, 0.2, 1), expected, atol=1e-6, rtol=0)


def test_worked_example_of_a_clean_batch() -> None:
    labels = clean_labels(predict(S, 0.2, 1), np.array([0.9, 0.6, 0.2]), released=False)
    torch.testing.assert_close(labels, torch.tensor([1, 0.860870, 0.686957]).double(), atol=1e-6, rtol=0)
    margins = losses.soft_margin(labels, 0.2)
    torch.testing.assert_close(margins, torch.tensor([0.2, 0.139086, 0.085857]).double(), atol=1e-6, rtol=0)
    assert losses.hinge_max(S, margins).item() == pytest.approx(0.599887, abs=1e-6)


def test_worked_example_of_a_clean_batch_as_released() -> None:
    labels = clean_labels(predict(S, 0.2, 1), np.array([0.9, 0.6, 0.2]), released=True)
    margins = losses.soft_margin(labels, 0.2)
    expected = [[0.2, 0.182896, 0.180853], [0.2, 0.139086, 0.132754], [0.2, 0.094870, 0.085857]]
    torch.testing.assert_close(margins, torch.tensor(expected).double(), atol=1e-6, rtol=0)
    assert hinge_max_by_entry(S, margins).item() == pytest.approx(0.676171, abs=1e-6)


def test_worked_example_of_a_noisy_batch() -> None:
    margins = losses.soft_margin(predict(S, 0.2, 1), 0.2)
    rows = 0.05 + 0.127539 + 0.018035
    assert losses.hinge_max(S, margins).item() == pytest.approx(rows + 0.027539 + 0.218035, abs=2e-6)
    assert hinge_max_by_entry(S, margins[:, None]).item() == pytest.approx(rows + 0.15 + 0.227539, abs=2e-6)


@pytest.mark.parametrize("n_surest", [1, 2, 5])
def test_predictions_are_those_of_a_naive_loop(n_surest: int) -> None:
    scores = random(9, 9) + 0.3 * torch.eye(9)
    found = naive_agreement(scores, 0.3)
    assert 0 < min(found) < max(found) < 0.3
    reference = sum(sorted(found)[-n_surest:]) / n_surest
    expected = [min(1.0, value / reference) for value in found]
    assert predict(scores, 0.3, n_surest).tolist() == pytest.approx(expected)
    assert (predict(scores, 0.3, n_surest) == 1).sum() >= 1


def test_predictions_where_no_pair_agrees() -> None:
    assert predict(-10 * torch.eye(4), 0.2, 1).tolist() == [0] * 4


@pytest.mark.parametrize("released", [False, True])
def test_steps_are_those_of_a_naive_loop(released: bool, make_task: MakeTask) -> None:
    """One update on a clean and a noisy batch: the losses, and who is asked for predictions in which mode."""
    method = make(make_task(), noisy_after=0.0, labels="released" if released else "correct", surest=0.3)
    clean, noisy = (method.task.data.batch(np.arange(start, start + 16, 2)) for start in (0, 16))
    p_clean = random(8).numpy()

    def scores(learner: int, batch: Any) -> Tensor:
        with torch.no_grad():
            return method.networks[learner](*batch.inputs).double()

    def naive_predict(learner: int, batch: Any) -> NDArray[np.float64]:
        found = np.array(naive_agreement(scores(learner, batch), 0.2))
        return np.minimum(1, found / np.sort(found)[-3:].mean())

    def soft(label: float) -> float:
        return 0.2 * (10**label - 1) / 9

    P, P_noisy = naive_predict(1, clean), (naive_predict(0, noisy) + naive_predict(1, noisy)) / 2
    w = p_clean
    if released:
        expected = naive_hinge(scores(1, clean), *[lambda i, j: soft(w[i] + (1 - w[i]) * P[j])] * 2)
    else:
        y = w + (1 - w) * P
        expected = naive_hinge(scores(1, clean), lambda i, j: soft(y[i]), lambda i, j: soft(y[j]))
    stepped, accumulate = [], method.optimisers[1].step
    method.optimisers[1].step = lambda loss: (stepped.append(scores(1, noisy)), accumulate(loss))
    scalars = method._update(1, clean, p_clean, noisy)
    assert scalars["loss_clean"] == pytest.approx(expected, rel=1e-5)
    # The noisy step comes second: its loss is that of the weights after the first, its labels are from before.
    by_row, by_column = (lambda i, j: soft(P_noisy[i])), (lambda i, j: soft(P_noisy[j]))
    expected = naive_hinge(stepped[1], by_row, by_row if released else by_column)
    assert scalars["loss_noisy"] == pytest.approx(expected, rel=1e-5)
    assert scalars["loss"] == pytest.approx(scalars["loss_clean"] + scalars["loss_noisy"])


# The split.


def test_worked_example_of_the_mixture(make_task: MakeTask) -> None:
    found = make(make_task())._posterior(FOUND)
    assert found.dtype == np.float64
    assert found[[6, 7, 8]].tolist() == pytest.approx([0.993781, 0.965499, 0.000002], abs=2e-6)


def test_pairs_above_a_probability_are_clean() -> None:
    p_clean = np.array([0.9, 0.5, 0.51, 0.0])
    assert split(p_clean, 0.5).tolist() == [True, False, True, False]
    assert split(p_clean, 0.6).tolist() == [True, False, False, False]


@pytest.mark.parametrize(("count", "n_noisy"), [(48, 1), (99, 1), (100, 2), (250, 3)])
def test_one_per_cent_is_noisy_where_all_look_clean(count: int, n_noisy: int) -> None:
    p_clean = 0.6 + 0.4 * np.random.default_rng(0).permutation(count) / count
    clean = split(p_clean, 0.5)
    assert (~clean).sum() == n_noisy
    assert p_clean[~clean].max() < p_clean[clean].min()
    assert (~split(np.ones(count), 0.5)).sum() == n_noisy  # ties do not take each other along


# Who trains when, and on what.


@both_methods
def test_each_network_trains_on_the_split_of_the_other(
    method: type[CoTeaching], make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(make_task(), method, noisy_after=0.0)
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
    made = make(make_task(), method, noisy_after=0.0 if with_noisy else 1.0, labels=labels)
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
    made = make(make_task(), method, noisy_after=0.0)
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
    made = make(make_task(), method)
    given = iter([np.zeros(48), np.repeat([0.9, 0.1], 24)])
    monkeypatch.setattr(made, "_posterior", lambda x: next(given))
    kinds = ["loss_clean" in entry for entry in train_epoch(made, 0)]
    assert kinds == [True, False] * 3 + [False] * 3


@both_methods
def test_phases_follow_the_budget(method: type[CoTeaching], make_task: MakeTask) -> None:
    made = make(make_task(budget=16.0), method, warmup=0.3, noisy_after=0.4, margin=2.0)
    share, phases = 0.0, []
    for entry in updates(made):
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
    made = make(make_task(budget=budget), method, warmup=0.3)
    half = np.repeat([0.9, 0.1], 24)
    monkeypatch.setattr(made, "_posterior", lambda x: half)
    counts = [0, 0]
    for learner in (0, 1):

        def step(loss: Tensor, learner: int = learner, original: Any = made.optimisers[learner].step) -> None:
            counts[learner] += 1
            original(loss)

        monkeypatch.setattr(made.optimisers[learner], "step", step)
    assert list(updates(made))
    assert min(counts) > 0
    assert abs(counts[0] - counts[1]) <= 2  # an update has up to two steps
    assert made.task.budget.used <= made.task.budget.total
    for network in made.networks:
        assert all(weight.grad is None or not weight.grad.any() for weight in network.parameters())


@both_methods
def test_no_beliefs_before_the_first_split_and_whole_ones_after(
    method: type[CoTeaching], make_task: MakeTask, noisy: np.ndarray
) -> None:
    made = make(make_task(budget=8.0, claimed=noisy), method, warmup=0.2)
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
    made = make(make_task(claimed=noisy), method, batch_size=16)
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
    through = make(make_task(claimed=noisy), method, warmup=warmup, noisy_after=0.0)
    list(train_epoch(through, 0))
    state, used = through.state_dict(), through.task.budget.used
    list(train_epoch(through, 1))

    resumed = make(make_task(claimed=noisy), method, warmup=warmup, noisy_after=0.0)
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
    made = make(make_task(backbone="saf"), method, noisy_after=0.0)
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
        made = make(make_task(backbone=backbone), method, labels=labels, noisy_after=0.0)
        assert all(np.isfinite(entry["loss"]) for entry in islice(train_epoch(made, 0), 3))
        ends.append(torch.cat([weight.detach().flatten() for weight in made.networks[0].parameters()]))
    assert torch.equal(ends[0], ends[2])
    assert (ends[0] - ends[1]).abs().max() > 1e-4


def test_an_epoch_of_ncr_costs_what_is_needed(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """In passes over the pairs, forward 1, with backward 3: scans 2; per network 4 on clean pairs, 5 on noisy ones."""
    for noisy_after, expected in ((1.0, 2 + 2 * 4 / 2), (0.0, 2 + 2 * (4 + 5) / 2)):
        made = make(make_task(), noisy_after=noisy_after)
        half = np.tile([0.9, 0.1], 24)  # one caption of every image
        monkeypatch.setattr(made, "_posterior", lambda x, half=half: half)
        list(train_epoch(made, 0))
        assert made.task.budget.progress * 100 * 3 == pytest.approx(expected, rel=0.03)  # lengths differ


def test_published_defaults() -> None:
    config = NCR.Config()
    assert (config.batch_size, config.lr, config.margin, config.clip) == (128, 2e-4, 0.2, 2.0)
    assert (config.clean_above, config.noisy_after, config.labels) == (0.5, 0.5, "correct")
    assert int(config.surest * 128) + 1 == 13
    assert (config.warmup, config.decay_every) == (5 / 45, 30 / 45)
    coco, web = NCR.presets["coco"], NCR.presets["cc152k"]
    assert (coco["warmup"], coco["decay_every"]) == (1 / 3, 1 / 3)
    assert (web["warmup"], web["decay_every"]) == (0.2, 0.6)


# All of it.


def test_epochs_are_those_of_a_plain_loop(make_task: MakeTask, noisy: np.ndarray) -> None:
    """The same training by hand, with sklearn's mixture and losses written down once more."""
    from sklearn.mixture import GaussianMixture

    settings = {"warmup": 0.09, "noisy_after": 0.1, "decay_every": 0.2, "clip": 0.5, "surest": 0.2}
    made = make(make_task(budget=20.0, claimed=noisy), **settings)
    entries = [entry for epoch in range(4) for entry in train_epoch(made, epoch)]

    task = make_task(budget=20.0, claimed=noisy)
    nets = [task.new_backbone() for _ in range(2)]
    adams = [torch.optim.Adam(net.parameters(), 1e-2) for net in nets]
    orders = [task.rng(f"order of pairs of network {name}") for name in "AB"]
    scanning, guessing = task.rng("order of the scan"), task.rng("first guess of the mixture")

    def batches(rng: np.random.Generator, pairs: Any) -> list[Any]:
        order = rng.permutation(pairs)
        parts = [order[start : start + 8] for start in range(0, len(order), 8)]
        return [task.data.batch(part) for part in parts if len(part) > 1]

    def costs(scores: Tensor, margins: Any) -> tuple[Tensor, Tensor]:
        margins = torch.as_tensor(margins).expand(len(scores))
        off = 1 - torch.eye(len(scores))
        own = scores.diag()
        return (margins[:, None] + scores - own[:, None]).relu() * off, (margins + scores - own).relu() * off

    def per_pair(scores: Tensor) -> Tensor:
        by_image, by_caption = costs(scores, 0.2)
        return (by_image.sum(1) + by_caption.sum(0)) / len(scores)

    def forward(net: Any, batch: Any) -> Tensor:
        return net(*batch.inputs)

    def guess(net: Any, batch: Any) -> Tensor:
        with torch.no_grad():
            raw = (0.2 - per_pair(forward(net, batch)) / 2).clamp(0, 0.2)
        best = raw.sort(descending=True).values[: len(batch) // 5 + 1]
        return (raw / best.mean()).clamp(0, 1)

    def step(k: int, loss: Tensor, done: float) -> None:
        adams[k].zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(nets[k].parameters(), 0.5)
        adams[k].param_groups[0]["lr"] = 1e-2 * 0.1 ** int(max(0.0, done - 0.09) / 0.2)
        adams[k].step()

    def train(k: int, batch: Any, labels: Tensor) -> None:
        by_image, by_caption = costs(forward(nets[k], batch), 0.2 * (10**labels - 1) / 9)
        step(k, by_image.max(1).values.sum() + by_caption.max(0).values.sum(), task.budget.progress)

    warm = [batches(order, np.arange(48)) for order in orders]
    for pair in zip(*warm, strict=True):
        for k in (0, 1):
            if task.budget.progress < 0.09:
                loss = per_pair(forward(nets[k], pair[k])).sum()
                step(k, loss, task.budget.progress)
    for _ in range(3):
        found = np.zeros((2, 48))
        for batch in batches(scanning, np.arange(48)):
            for k in (0, 1):
                with torch.no_grad():
                    found[k, batch.pairs] = per_pair(forward(nets[k], batch)).numpy()
        posterior = []
        for row in found:
            row = (row - row.min()) / (row.max() - row.min())
            seed = int(guessing.integers(2**31))
            fitted = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=seed)
            posterior.append(fitted.fit(row[:, None]).predict_proba(row[:, None])[:, fitted.means_.argmin()])
        beliefs = [posterior[1], posterior[0]]
        assert all(2 <= (belief > 0.5).sum() <= 46 for belief in beliefs)
        clean = [batches(order, np.flatnonzero(w > 0.5)) for order, w in zip(orders, beliefs, strict=True)]
        left: list[list[Any]] = [[], []]
        for turn in range(max(map(len, clean))):
            for k in (0, 1):
                if turn >= len(clean[k]):
                    continue
                batch, w = clean[k][turn], torch.tensor(beliefs[k]).float()
                other = None
                if task.budget.progress >= 0.09 + 0.1 * 0.91:
                    left[k] = left[k] or batches(orders[k], np.flatnonzero(beliefs[k] <= 0.5))
                    other = left[k].pop(0)
                w = w[batch.pairs]
                labels = w + (1 - w) * guess(nets[k], batch)
                if other is not None:
                    other_labels = (guess(nets[k], other) + guess(nets[1 - k], other)) / 2
                train(k, batch, labels)
                if other is not None:
                    train(k, other, other_labels)

    assert task.budget.used == made.task.budget.used
    kinds = [entry.get("loss_noisy", -1.0) for entry in entries]
    assert min(kinds) < 0
    assert 0 in kinds
    assert max(kinds) > 0
    np.testing.assert_allclose(made.pair_scores(), np.mean(posterior, 0), atol=1e-3)
    for ours, theirs in zip(made.networks, nets, strict=True):
        for key, value in ours.state_dict().items():
            torch.testing.assert_close(value, theirs.state_dict()[key], rtol=1e-3, atol=1e-4)
