"""Runs of an ensemble: members train one after the other, are selected on their own, and averaged."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from believers import execute, judged_rematches, prepare, scored, stated
from safetensors.torch import load_file
from toy_methods import Toy

from ncbench import UserError
from ncbench.backbones.base import Sizes
from ncbench.backbones.graph import SAF, SGR
from ncbench.backbones.registry import build_backbone, members_of
from ncbench.budget import Budget
from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import detect
from ncbench.evaluation.retrieval import Recalls, Retrieval, evaluate
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.method.registry import load_method
from ncbench.noise.registry import draw_noise
from ncbench.records.networks import read_checkpoint
from ncbench.records.progress import Progress
from ncbench.records.record import Record
from ncbench.training.cost import (
    Work,
    baseline_epoch_work,
)
from ncbench.training.run import Run
from ncbench.training.seclusion import Secluded
from ncbench.training.trainer import Diverged

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Trained:
    """A finished run of SGRAF, whose test is judged here by its files."""

    run: Run
    result: dict[str, Any]
    folder: Path
    progress: list[Progress]

    def history(self, member: str) -> list[dict[str, Any]]:
        return [line for line in Record(self.folder).history_lines() if line["backbone"] == member]


MEMBERS = ("sgr", "saf")
SMALL = Sizes(6, 3, 10, embed=16, similarity=8, word=8)


@pytest.fixture(scope="module", params=["triplet", "l2rm"])
def ensemble(request: pytest.FixtureRequest, tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder, progress = tmp_path_factory.mktemp("sgraf"), []
    run = prepare(tiny, folder, request.param, "sgraf", budget=2.4, on_progress=progress.append)
    return Trained(run, run.execute().to_dict(), folder, progress)


def epoch_work(backbone: str, dataset: Dataset) -> int:
    return baseline_epoch_work(build_backbone(backbone, SMALL), dataset.splits["train"].captions, 8)


def test_an_epoch_of_an_ensemble_is_one_of_each_member(tiny: Dataset) -> None:
    assert epoch_work("sgraf", tiny) == epoch_work("sgr", tiny) + epoch_work("saf", tiny)
    assert epoch_work("sgr", tiny) != epoch_work("saf", tiny)


def test_members_are_trained_one_after_the_other_within_their_own_budgets(ensemble: Trained, tiny: Dataset) -> None:
    assert members_of("sgraf") == MEMBERS == tuple(trained.name for trained in ensemble.run.trainers)
    assert [line["backbone"] for line in Record(ensemble.folder).history_lines()] == ["sgr"] * 3 + ["saf"] * 3
    shares = [0.0, *(progress.share for progress in ensemble.progress)]
    largest = max(round(2.4 * epoch_work(name, tiny)) for name in MEMBERS)
    step = round(max(np.diff(shares)) * len(MEMBERS) * largest) + 1
    budgets, used, updates = [], 0, 0
    for name, trained in zip(MEMBERS, ensemble.run.trainers, strict=True):
        history = ensemble.history(name)
        budgets.append(round(2.4 * epoch_work(name, tiny)))
        works = [0, *(line["work"] for line in history)]
        assert works == sorted(set(works))
        assert history[-1]["share"] == works[-1] / budgets[-1]
        assert budgets[-1] - step <= works[-1] <= budgets[-1]
        for number, line in enumerate(history[:-1], 1):
            assert number / 3 <= line["share"] < number / 3 + step / budgets[-1]
        assert (trained.meter.total, trained.meter.used, trained.updates) == (
            budgets[-1],
            works[-1],
            history[-1]["updates"],
        )
        used, updates = used + works[-1], updates + history[-1]["updates"]
    work = ensemble.result["work"]
    assert (work["budget"], work["used"], work["updates"]) == (sum(budgets), used, updates)
    assert work["baseline_epoch"] == sum(epoch_work(name, tiny) for name in MEMBERS)
    assert abs(Work.of(ensemble.run.spec, tiny).epoch * 2.4 - sum(budgets)) <= 1
    if ensemble.run.spec.method == "triplet":
        assert updates == 2 * 14  # of 6 in an epoch


def test_progress_of_an_ensemble_is_that_of_all_members(ensemble: Trained) -> None:
    shares = [progress.share for progress in ensemble.progress]
    assert shares == sorted(shares)
    assert shares[-1] == np.mean([trained.meter.progress for trained in ensemble.run.trainers])
    # The first member ends in the middle, not at the end.
    ends = [ensemble.history(name)[-1]["share"] / len(MEMBERS) for name in MEMBERS]
    assert ends[0] in shares
    assert sum(ends) == pytest.approx(shares[-1])
    assert 0.3 < ends[0] < 0.7
    assert ensemble.progress[-1].doing == "testing"
    assert ensemble.progress[-1].dev_rsum == ensemble.result["selected"]["members"]["saf"]["dev_rsum"]


def test_every_member_is_selected_on_its_own(ensemble: Trained, tiny: Dataset) -> None:
    selected = ensemble.result["selected"]
    assert set(selected) == {"dev_rsum", "share", "members"}
    for name in MEMBERS:
        history = ensemble.history(name)
        best = history[int(np.argmax([line["dev"]["rsum"] for line in history]))]
        assert selected["members"][name] == {"dev_rsum": best["dev"]["rsum"], "share": best["share"]}
    assert list(selected["members"]) == list(MEMBERS)
    assert selected["share"] == max(selected["members"][name]["share"] for name in MEMBERS)


def test_the_stored_weights_of_an_ensemble_give_its_record(ensemble: Trained, tiny: Dataset) -> None:
    stored = load_file(ensemble.folder / "model.safetensors")
    nets = []
    for number, name in enumerate(MEMBERS):
        net = build_backbone(name, SMALL)
        own = {key.partition(".")[2]: value for key, value in stored.items() if key.startswith(f"{number}.")}
        net.load_state_dict(own, strict=True)
        nets.append(net)
    assert {key.partition(".")[0] for key in stored} == {"0", "1"}
    dev, test = (tiny.splits[name] for name in ("dev", "test"))
    for name, net in zip(MEMBERS, nets, strict=True):
        alone = evaluate(similarity_matrix([net], dev, CPU), dev.true)
        assert alone.rsum == ensemble.result["selected"]["members"][name]["dev_rsum"]
    each = [similarity_matrix([net], test, CPU) for net in nets]
    mean = (each[0] + each[1]) / 2
    assert np.abs(each[0] - each[1]).max() > 1e-3
    assert evaluate(mean, test.true).to_dict() == ensemble.result["metrics"]["test"]
    devs = [similarity_matrix([net], dev, CPU) for net in nets]
    assert evaluate((devs[0] + devs[1]) / 2, dev.true).rsum == ensemble.result["selected"]["dev_rsum"]
    np.testing.assert_array_equal(scored(ensemble.run), mean)
    # The class that scores with both members says the same.
    whole = build_backbone("sgraf", SMALL)
    for member, net in zip(whole.members, nets, strict=True):
        member.load_state_dict(net.state_dict())
    np.testing.assert_allclose(similarity_matrix([whole], test, CPU), mean, rtol=0, atol=1e-6)


def test_ranks_of_an_ensemble_recompute_its_metrics(ensemble: Trained) -> None:
    ranks = np.load(ensemble.folder / "ranks.npz")
    assert (ranks["i2t"].shape, ranks["t2i"].shape) == ((8,), (16,))
    found = Retrieval(Recalls.from_ranks(ranks["i2t"]), Recalls.from_ranks(ranks["t2i"]))
    assert found.to_dict() == ensemble.result["metrics"]["test"]


def test_the_checkpoint_of_an_ensemble_is_its_members(ensemble: Trained, tiny: Dataset) -> None:
    (ensemble.folder / "spec.json").write_text(json.dumps(ensemble.run.spec.to_dict()))  # as a sweep does
    found = read_checkpoint(ensemble.folder)
    assert tuple(found.kinds) == MEMBERS
    nets = found.build(tiny)
    assert [type(net) for net in nets] == [SGR, SAF]
    np.testing.assert_array_equal(similarity_matrix(nets, tiny.splits["test"], CPU), scored(ensemble.run))


def test_the_first_member_is_what_it_is_alone(ensemble: Trained, tiny: Dataset, tmp_path: Path) -> None:
    method = ensemble.run.spec.method
    _, alone = execute(tiny, tmp_path, method, "sgr", budget=2.4)
    assert alone["selected"] == ensemble.result["selected"]["members"]["sgr"]
    found, whole = (load_file(folder / "model.safetensors") for folder in (tmp_path, ensemble.folder))
    assert found
    for name, weight in found.items():
        assert torch.equal(weight, whole[name]), name
    timeless = [{k: v for k, v in line.items() if k != "seconds"} for line in Record(tmp_path).history_lines()]
    assert timeless == [{k: v for k, v in line.items() if k != "seconds"} for line in ensemble.history("sgr")]


def test_members_start_from_weights_of_their_own(ensemble: Trained) -> None:
    stored = load_file(ensemble.folder / "model.safetensors")
    name = "image_encoder.project.weight"
    assert (stored[f"0.{name}"] - stored[f"1.{name}"]).abs().mean() > 0.05
    methods = [trained.method for trained in ensemble.run.trainers]
    assert methods[0] is not methods[1]


@pytest.mark.parametrize("method", ["triplet", "l2rm"])
def test_an_ensemble_gives_the_same_bytes_again(method: str, with_dropout: Dataset, tmp_path: Path) -> None:
    for folder in ("first", "second"):
        torch.rand(7)
        execute(with_dropout, tmp_path / folder, method, "sgraf", budget=0.7, evaluations=2)
    for name in ("result.json", "model.safetensors", "ranks.npz"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


def test_a_method_with_two_backbones_makes_four_networks_of_an_ensemble(tiny: Dataset, tmp_path: Path) -> None:
    run, result = execute(tiny, tmp_path, "twins", "sgraf", budget=1, evaluations=1)
    (tmp_path / "spec.json").write_text(json.dumps(run.spec.to_dict()))
    found = read_checkpoint(tmp_path)
    assert found.kinds == ["sgr", "sgr", "saf", "saf"]
    test = tiny.splits["test"]
    assert evaluate(similarity_matrix(found.build(tiny), test, CPU), test.true).to_dict() == result["metrics"]["test"]


def test_beliefs_of_an_ensemble_are_those_of_both_members(tiny: Dataset, tmp_path: Path) -> None:
    run, result = execute(tiny, tmp_path, "believer", "sgraf", budget=0.5)
    true, claimed = tiny.splits["train"].true, run.noise.claimed
    scores, _ = stated(run)
    assert result["beliefs"]["detection"] == asdict(detect(scores, claimed == true))
    assert result["beliefs"]["rematches"] == judged_rematches(run, tiny, members=2)
    assert result["beliefs"]["rematches"]["count"] == 4
    ends = {line["backbone"]: line["work"] for line in Record(tmp_path).history_lines()}
    assert result["work"]["used"] == sum(ends.values())  # telling them is not charged


def test_beliefs_that_members_do_not_share(tiny: Dataset, tmp_path: Path) -> None:
    run, result = execute(tiny, tmp_path, "doubter", "sgraf", budget=0.5)
    clean = run.noise.claimed == tiny.splits["train"].true
    scores, _ = stated(run)
    mean = (scores + 1) / 2
    assert result["beliefs"]["detection"] == asdict(detect(mean, clean))
    assert asdict(detect(mean, clean)) != asdict(detect(scores, clean))
    assert result["beliefs"]["rematches"]["count"] == 2
    labels = (scores**2 + 1) / 2
    assert result["beliefs"]["soft_labels"]["auc"] == detect(labels, clean).auc


def test_l2rm_believes_with_both_members(tiny: Dataset, tmp_path: Path) -> None:
    run, result = execute(tiny, tmp_path, "l2rm", "sgraf", budget=5)
    scores, counts = [], []
    for trained in run.trainers:
        with trained.meter.paused():
            scores.append(run.numbering.restored(trained.method.pair_scores()))
            counts.append(int((trained.method.rematches().weights > 0).sum()))
    assert not np.array_equal(scores[0], scores[1])
    expected = detect((scores[0] + scores[1]) / 2, run.noise.clean(tiny.splits["train"].true))
    assert result["beliefs"]["detection"] == asdict(expected)
    assert min(counts) > 0
    assert result["beliefs"]["rematches"]["count"] == sum(counts)


def test_an_ensemble_that_diverges_leaves_no_result(tiny: Dataset, tmp_path: Path) -> None:
    class SecondDiverges(Toy):
        def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
            for scalars in super().train_epoch(epoch):
                yield {"loss": math.inf} if isinstance(self.nets[0], SAF) else scalars

    run = prepare(tiny, tmp_path, "toy", "sgraf", budget=1)
    run.trainers[1].method = Secluded(SecondDiverges(run.trainers[1].method.inner.config))
    with pytest.raises(Diverged, match=r"^the loss is inf at update 1$"):
        run.execute()
    assert {path.name for path in tmp_path.iterdir()} == {"history.jsonl"}
    assert {line["backbone"] for line in Record(tmp_path).history_lines()} == {"sgr"}


def test_a_budget_too_small_for_a_member(tiny: Dataset, tmp_path: Path) -> None:
    small = replace(prepare(tiny, tmp_path, "triplet", "sgraf").spec, budget=Budget(0.01))
    noise = draw_noise("shuffle-captions", 0.4, tiny.splits["train"], 0)
    with pytest.raises(UserError, match=r"^a budget of 0\.01 is too small for one update of triplet"):
        Run(small, tiny, noise, load_method("triplet"), tmp_path, CPU, lambda _: None).execute()
