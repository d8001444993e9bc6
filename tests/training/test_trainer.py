"""The training loop: dev at equal shares of the budget, the best state kept, and training that cannot go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_methods import FAST, Diverging, Toy, Twins

from ncbench import TrainingView, UserError
from ncbench.backbones.base import Sizes
from ncbench.backbones.graph import SAF, SGR
from ncbench.backbones.registry import build_backbone
from ncbench.budget import Budget, Meter, WorkMeter
from ncbench.data.dataset import Dataset
from ncbench.evaluation.retrieval import Recalls, Retrieval, evaluate
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.method.registry import load_method, settings_of
from ncbench.noise.registry import draw_noise
from ncbench.records.history import History
from ncbench.records.record import Record
from ncbench.records.spec import RunSpec
from ncbench.training import trainer
from ncbench.training.blind_scoring import score_blindly
from ncbench.training.cost import baseline_epoch_work
from ncbench.training.seclusion import Secluded
from ncbench.training.trainer import Clock, Diverged, Trainer

CPU = torch.device("cpu")
SIZES = Sizes(6, 3, 10, embed=16, similarity=8, word=8, dropout=0.0)


class Idle(Toy):
    name = "idle"

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        yield {"loss": 0.0}


class Empty(Toy):
    """Has epochs without an update."""

    name = "empty"

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        return iter(())


class Knowing(Toy):
    """A reference: is told which pairs are clean."""

    name = "knowing"
    needs_truth = True


class Fake:
    """A trainer with all that it takes, on the tiny dataset."""

    def __init__(
        self,
        dataset: Dataset,
        folder: Path,
        method: str = "toy",
        backbone: str = "vse",
        *,
        budget: float = 2.0,
        evaluations: int = 3,
        ratio: float = 0.4,
        **changes: Any,
    ) -> None:
        mine = {kind.name: kind for kind in (Toy, Twins, Diverging, Idle, Empty, Knowing)}
        kind = mine.get(method) or load_method(method)
        train = dataset.splits["train"]
        self.dataset, self.folder = dataset, folder
        noise = draw_noise("shuffle-captions", ratio, train, 0)
        self.claimed = noise.claimed
        spec = RunSpec.of(
            dataset,
            noise,
            kind,
            {**settings_of(kind, dataset.name), **FAST.get(method, {})},
            backbone=backbone,
            budget=Budget(budget),
            evaluations=evaluations,
            seed=0,
            **changes,
        )
        epoch = baseline_epoch_work(build_backbone(backbone, SIZES), train.captions, 8)
        self.meter = WorkMeter(round(budget * epoch))
        self.method = kind(kind.Config(**spec.settings))
        history = History(folder / "history.jsonl")
        self.trainer = Trainer(spec, backbone, SIZES, self.method, self.meter, CPU, Clock(), history)
        self.given_clean: list[tuple[str, float]] = []  # what is done, and the share of the budget by then

    def train(self, truth: np.ndarray | None = None) -> Trainer:
        train = self.dataset.splits["train"]
        view = TrainingView(train.images, train.captions, self.claimed, CPU)
        torch.manual_seed(0)
        report = lambda doing: self.given_clean.append((doing, self.meter.progress))  # noqa: E731
        self.trainer.set_up(view, truth)
        self.trainer.train(self.dataset.splits["dev"], report, lambda epoch_is_over: None)
        return self.trainer

    @property
    def history(self) -> list[dict[str, Any]]:
        return Record(self.folder).history_lines()


@pytest.mark.parametrize("method", ["triplet", "l2rm"])
@pytest.mark.parametrize("evaluations", [1, 2, 5])
def test_dev_is_evaluated_so_often_at_equal_work(
    method: str, evaluations: int, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def watch(method: Any, backbones: Any, split: Any, *others: Any) -> Any:
        seen.append(split)
        return score_blindly(method, backbones, split, *others)

    monkeypatch.setattr(trainer, "score_blindly", watch)
    fake = Fake(tiny, tmp_path, method, budget=6, evaluations=evaluations)
    trained = fake.train()
    assert len(seen) == evaluations
    assert all(split is tiny.splits["dev"] for split in seen)
    assert [doing for doing, _ in fake.given_clean].count("evaluating") == evaluations
    history = fake.history
    assert len(history) == evaluations
    shares = [0.0, *(share for doing, share in fake.given_clean if doing == "training")]
    for number, line in enumerate(history[:-1], start=1):
        earlier = [share for share in shares if share < line["share"]]
        assert max(earlier) < number / evaluations <= line["share"]
    assert history[-1]["share"] == pytest.approx(fake.meter.progress)
    assert history[-1]["updates"] == trained.updates == len(shares) - 1
    assert [line["work"] for line in history] == [round(line["share"] * fake.meter.total) for line in history]
    assert {line["backbone"] for line in history} == {"vse"}


def test_no_evaluation_happens_twice_where_one_update_passes_several_marks(tiny: Dataset, tmp_path: Path) -> None:
    fake = Fake(tiny, tmp_path, "triplet", budget=0.5, evaluations=50)
    fake.train()
    assert [line["updates"] for line in fake.history] == [1, 2, 3, 3]


@pytest.mark.parametrize("rsums", [(20, 30, 10, 30), (40, 30, 20, 10), (10, 20, 30, 40)])
def test_the_best_state_on_dev_is_kept_and_loaded(
    rsums: tuple[int, ...], tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted, seen = iter(rsums), []

    def script(method: Any, backbones: list[Any], *_: Any) -> None:
        seen.append({name: weight.clone() for name, weight in backbones[0].state_dict().items()})

    def score(*_: Any) -> Retrieval:
        recall = next(scripted) / 6
        return Retrieval(*(Recalls(recall, recall, recall, 1.0, 1.0) for _ in range(2)))

    monkeypatch.setattr(trainer, "score_blindly", script)
    monkeypatch.setattr(trainer, "retrieval_of", score)
    fake = Fake(tiny, tmp_path, budget=2, evaluations=4)
    trained = fake.train()
    best = rsums.index(max(rsums))  # the first of equals
    assert trained.selected.rsum == pytest.approx(max(rsums))
    assert trained.selected.share == fake.history[best]["share"]
    (net,) = trained.backbones
    (kept,) = trained.selected.weights
    for weights in (net.state_dict(), kept):
        assert weights.keys() == seen[best].keys()
        assert all(torch.equal(weight, seen[best][name]) for name, weight in weights.items())
    assert any(not torch.equal(weight, seen[best - 1][name]) for name, weight in kept.items())


def test_all_backbones_of_a_method_are_evaluated_and_kept(tiny: Dataset, tmp_path: Path) -> None:
    fake = Fake(tiny, tmp_path, "twins", budget=1, evaluations=1)
    trained = fake.train()
    assert len(trained.backbones) == len(trained.selected.weights) == 2
    first, second = trained.selected.weights
    assert any(not torch.equal(first[name], second[name]) for name in first)
    with fake.meter.paused():
        dev = evaluate(similarity_matrix(trained.backbones, tiny.splits["dev"], CPU), tiny.splits["dev"].true)
    assert dev.rsum == trained.selected.rsum


def test_a_loss_that_is_no_number_ends_training(tiny: Dataset, tmp_path: Path) -> None:
    fake = Fake(tiny, tmp_path, "diverging")
    with pytest.raises(Diverged, match=r"^the loss is nan at update 3$"):
        fake.train()
    assert fake.history == []


def test_a_budget_too_small_for_one_update(tiny: Dataset, tmp_path: Path) -> None:
    fake = Fake(tiny, tmp_path, "triplet", budget=0.01)
    message = r"^a budget of 0\.01 is too small for one update of triplet; raise --budget\.$"
    with pytest.raises(UserError, match=message):
        fake.train()
    assert (fake.history, fake.trainer.updates) == ([], 0)


@pytest.mark.parametrize(("method", "what"), [("idle", "an update in epoch 0"), ("empty", "epoch 0")])
def test_a_method_that_does_no_work_is_stopped(method: str, what: str, tiny: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=f"^{what} of {method} did no work"):
        Fake(tiny, tmp_path, method).train()


def test_times_are_kept_apart(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def slow(*arguments: Any) -> Any:
        now[0] += 100.0
        return score_blindly(*arguments)

    class Steady(Toy):
        def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
            for scalars in super().train_epoch(epoch):
                now[0] += 1.0
                yield scalars

    monkeypatch.setattr(trainer.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(trainer, "score_blindly", slow)
    fake = Fake(tiny, tmp_path, budget=1, evaluations=2)
    fake.trainer.method = Secluded(Steady(fake.method.config))
    trained = fake.train()
    assert trained.clock.seconds == {"training": trained.updates, "evaluation": 200.0, "checkpoints": 0.0}
    assert [line["seconds"] for line in fake.history] == [line["updates"] for line in fake.history]


@pytest.mark.parametrize(("backbone", "kind"), [("sgr", SGR), ("saf", SAF)])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_backbones_are_of_the_kind_and_precision_asked_for(
    backbone: str, kind: type, precision: str, tiny: Dataset, tmp_path: Path
) -> None:
    fake = Fake(tiny, tmp_path, backbone=backbone, precision=precision)
    net = fake.trainer.workshop()
    assert type(net) is kind
    assert (net.sizes, net.precision) == (SIZES, precision)
    net.encode_images(torch.zeros(2, 3, 6))
    assert fake.meter.used > 0


def test_methods_see_claimed_pairs_only(tiny: Dataset, tmp_path: Path) -> None:
    fake = Fake(tiny, tmp_path, budget=0.5, ratio=0.5)
    fake.train(truth=fake.claimed == tiny.splits["train"].true)
    task = fake.method.task
    np.testing.assert_array_equal(task.data.claimed, fake.claimed)
    assert (task.data.claimed != tiny.splits["train"].true).any()
    public = {name for name in dir(task) if not name.startswith("_")}
    assert public == {"data", "device", "budget", "new_backbone", "seed", "rng", "truth", "clean"}
    assert task.truth is None


@pytest.mark.parametrize("method", ["triplet", "l2rm"])
def test_contestants_are_not_told_the_truth(method: str, tiny: Dataset, tmp_path: Path) -> None:
    fake = Fake(tiny, tmp_path, method, budget=0.5, ratio=0.5)
    fake.train(truth=fake.claimed == tiny.splits["train"].true)
    assert fake.method.task.truth is None


def test_a_reference_is_told_the_truth(tiny: Dataset, tmp_path: Path) -> None:
    fake = Fake(tiny, tmp_path, "knowing", budget=0.5, ratio=0.5)
    truth = fake.claimed == tiny.splits["train"].true
    assert 0 < truth.sum() < len(truth)
    fake.train(truth)
    np.testing.assert_array_equal(fake.method.task.truth, truth)
    np.testing.assert_array_equal(fake.method.task.data.claimed, fake.claimed)


def test_training_does_not_depend_on_how_often_dev_is_evaluated(tiny: Dataset, tmp_path: Path) -> None:
    found = []
    for evaluations in (1, 6):
        fake = Fake(tiny, tmp_path / str(evaluations), budget=1, evaluations=evaluations)
        fake.train()
        found.append(fake.history[-1])
    assert [found[0][key] == found[1][key] for key in ("work", "updates", "loss", "dev")] == [True] * 4


@pytest.mark.parametrize("midway", [True, False])
def test_where_training_can_be_resumed(midway: bool, tiny: Dataset, tmp_path: Path) -> None:
    """After every update, unless a method says otherwise; after every epoch in any case."""
    kind = type("Kind", (Toy,), {"resumes_midway": midway})
    fake = Fake(tiny, tmp_path, budget=2.5)
    fake.trainer.method = Secluded(kind(fake.method.config))
    called: list[tuple[bool, int, bool]] = []
    train = tiny.splits["train"]
    fake.trainer.set_up(TrainingView(train.images, train.captions, fake.claimed, CPU))
    fake.trainer.train(
        tiny.splits["dev"],
        lambda doing: None,
        lambda over: called.append((over, fake.trainer.updates, fake.trainer.resumable)),
    )
    assert [call for call in called if call[0]] == [(True, 6, True), (True, 12, True)]
    updates = [call for call in called if not call[0]]
    assert updates == [(False, n, midway) for n in range(1, fake.trainer.updates + 1)]


def test_epochs_begin_within_their_first_update_and_not_again_when_resumed(tiny: Dataset, tmp_path: Path) -> None:
    begun: list[tuple[int, int]] = []
    counts: list[Meter] = []

    class Preparing(Toy):
        def begin_epoch(self, epoch: int) -> None:
            begun.append((epoch, counts[-1].used))
            self.nets[0].encode_images(torch.zeros(1, 3, 6))

    def fake(number: int, budget: float) -> Fake:
        made = Fake(tiny, tmp_path / str(number), budget=budget)
        made.trainer.method = Secluded(Preparing(made.method.config))
        train = tiny.splits["train"]
        counts.append(made.meter)
        made.trainer.set_up(TrainingView(train.images, train.captions, made.claimed, CPU))
        return made

    first = fake(0, 3.0).trainer.loop
    updates = first.updates()
    used = [first.meter.used for _ in range(8) if next(updates) or True]
    assert begun == [(0, 0), (1, used[6])]  # six updates, the end of the epoch, and one more
    assert (first.epoch, first.midway) == (1, True)
    resumed = fake(1, 3.0).trainer.loop
    resumed.load_state_dict(first.state_dict())
    assert [scalars is None for scalars in resumed.updates()][:6] == [False] * 5 + [True]
    assert begun[2][0] == 2
