"""One run on the tiny dataset: reproducible, within its budget, honest in its record."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from believers import execute, prepare, scored
from safetensors.torch import load_file
from toy_methods import Toy

from ncbench import UserError
from ncbench.backbones.base import Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.data.dataset import Dataset
from ncbench.data.fitting import fitting_pairs
from ncbench.evaluation.fitting import evaluate_fitting
from ncbench.evaluation.retrieval import Recalls, Retrieval, evaluate, rank
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.records.arrays import load_fitting
from ncbench.records.progress import Progress
from ncbench.records.record import Record
from ncbench.records.spec import RunSpec
from ncbench.training import trainer
from ncbench.training.blind_scoring import score_blindly
from ncbench.training.cost import (
    Work,
    baseline_epoch_work,
)
from ncbench.training.run import Run
from ncbench.training.trainer import Diverged

CPU = torch.device("cpu")


@pytest.mark.parametrize(("method", "backbone"), [("triplet", "saf"), ("l2rm", "sgr"), ("l2rm", "vse")])
def test_a_run_gives_the_same_bytes_whatever_went_before(
    method: str, backbone: str, with_dropout: Dataset, tmp_path: Path
) -> None:
    for folder in ("first", "second"):
        execute(with_dropout, tmp_path / folder, method, backbone, evaluations=2)
        torch.manual_seed(99)
        torch.rand(7)
        np.random.seed(5)
        execute(with_dropout, tmp_path / f"between-{folder}", "toy", "vse", budget=0.5, seed=3)
    for name in ("result.json", "model.safetensors"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name
    ranks = [np.load(tmp_path / folder / "ranks.npz") for folder in ("first", "second")]
    for key in ("i2t", "t2i"):
        np.testing.assert_array_equal(ranks[0][key], ranks[1][key])


def test_another_seed_gives_another_run(tiny: Dataset, tmp_path: Path) -> None:
    for seed in (0, 1):
        execute(tiny, tmp_path / str(seed), "triplet", ratio=0.0, budget=0.5, seed=seed)
    first, second = ((tmp_path / folder / "model.safetensors").read_bytes() for folder in "01")
    assert first != second


def test_training_learns(tiny: Dataset, tmp_path: Path) -> None:
    _, result = execute(tiny, tmp_path, "triplet", ratio=0.0, budget=20)
    # Chance is 329 on 8 images. Of the seeds 0 to 7 the worst reaches 538.
    assert result["metrics"]["test"]["rsum"] > 430


@pytest.mark.parametrize(("method", "backbone"), [("triplet", "vse"), ("triplet", "saf"), ("l2rm", "vse")])
@pytest.mark.parametrize("budget", [0.8, 2.3])
def test_the_budget_is_used_up_to_the_last_step_that_fits(
    method: str, backbone: str, budget: float, tiny: Dataset, tmp_path: Path
) -> None:
    shares = [0.0]
    run, result = execute(
        tiny, tmp_path, method, backbone, budget=budget, on_progress=lambda progress: shares.append(progress.share)
    )
    net = build_backbone(backbone, Sizes(6, 3, 10, embed=16, similarity=8, word=8))
    work = result["work"]
    assert work["budget"] == round(budget * baseline_epoch_work(net, tiny.splits["train"].captions, 8))
    assert shares == sorted(shares)
    largest = max(np.diff(shares)) * work["budget"]
    assert work["budget"] - largest - 1 <= work["used"] <= work["budget"]
    (trained,) = run.trainers
    assert work["used"] == trained.meter.used


def test_an_epoch_of_budget_is_an_epoch_of_triplet(tiny: Dataset, tmp_path: Path) -> None:
    _, result = execute(tiny, tmp_path, "triplet", budget=2)
    assert result["work"]["updates"] == 2 * 6
    assert result["work"]["used"] == result["work"]["budget"]


def test_the_selected_state_is_the_best_on_dev(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rsums = [20.0, 40.0, 60.0, 30.0]  # scripted: training gets worse at the end
    scripted = iter(rsums)
    monkeypatch.setattr(
        trainer, "retrieval_of", lambda *_: Retrieval(*[Recalls(*[next(scripted) / 6] * 3, 1.0, 1.0)] * 2)
    )
    _, result = execute(tiny, tmp_path, "toy", budget=2, evaluations=4)
    history = Record(tmp_path).history_lines()
    assert [line["dev"]["rsum"] for line in history] == pytest.approx(rsums)
    assert result["selected"] == {"dev_rsum": pytest.approx(60), "share": history[2]["share"]}


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [("vse", ["dev"] * 3 + ["test"]), ("sgraf", ["dev"] * 3 + ["dev"] * 3 + ["test", "dev"])],
)
def test_test_is_looked_at_once_after_training(
    backbone: str, expected: list[str], tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = []

    def watch(method: Any, backbones: Any, split: Any, *others: Any) -> Any:
        splits.append(next(name for name, known in tiny.splits.items() if known is split))
        return score_blindly(method, backbones, split, *others)

    for module in ("result", "trainer"):
        monkeypatch.setattr(f"ncbench.training.{module}.score_blindly", watch)
    execute(tiny, tmp_path, "toy", backbone, budget=1, evaluations=3)
    assert splits == expected


def assert_model_scores(dataset: Dataset, folder: Path, result: dict[str, Any], backbone: str, count: int) -> None:
    """Check that the stored weights, in fresh networks, have the metrics of the record."""
    stored = load_file(folder / "model.safetensors")
    nets = []
    for number in range(count):
        net = build_backbone(backbone, Sizes(6, 3, 10, embed=16, similarity=8, word=8))
        mine = {key.partition(".")[2]: value for key, value in stored.items() if key.startswith(f"{number}.")}
        net.load_state_dict(mine, strict=True)
        nets.append(net)
    assert {key.partition(".")[0] for key in stored} == {str(number) for number in range(count)}
    test, dev = (evaluate(similarity_matrix(nets, s, CPU), s.true) for s in map(dataset.splits.get, ("test", "dev")))
    assert test.to_dict() == result["metrics"]["test"]
    assert dev.rsum == result["selected"]["dev_rsum"]


@pytest.mark.parametrize("backbone", ["vse", "saf"])
def test_two_backbones_are_averaged_and_stored(backbone: str, tiny: Dataset, tmp_path: Path) -> None:
    _, result = execute(tiny, tmp_path, "twins", backbone, budget=2)
    assert_model_scores(tiny, tmp_path, result, backbone, 2)
    one = execute(tiny, tmp_path / "one", "toy", backbone, budget=2)[1]
    assert one["work"]["updates"] == 2 * result["work"]["updates"]


def test_ranks_recompute_the_metrics(tiny: Dataset, tmp_path: Path) -> None:
    _, result = execute(tiny, tmp_path, "triplet", budget=0.5)
    ranks = np.load(tmp_path / "ranks.npz")
    assert (ranks["i2t"].shape, ranks["t2i"].shape, ranks["t2i"].dtype) == ((8,), (16,), np.int32)
    found = Retrieval(Recalls.from_ranks(ranks["i2t"]), Recalls.from_ranks(ranks["t2i"]))
    assert found.to_dict() == result["metrics"]["test"]
    assert "test_unfolded" not in result["metrics"]


def test_folds_are_averaged_beside_the_whole(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = make_dataset(folds=2)
    run, result = execute(dataset, tmp_path, "triplet", budget=0.5)
    test = dataset.splits["test"]
    (trained,) = run.trainers
    with trained.meter.paused():
        similarities = similarity_matrix(trained.backbones, test, CPU)
    own = np.repeat(np.arange(4), 2)
    halves = [evaluate(similarities[:4, :8], own), evaluate(similarities[4:, 8:], own)]
    assert result["metrics"]["test"]["rsum"] == pytest.approx(np.mean([half.rsum for half in halves]))
    assert result["metrics"]["test_unfolded"] == evaluate(similarities, test.true).to_dict()


def keys(content: object) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield key
            yield from keys(value)


def test_the_record(tiny: Dataset, tmp_path: Path) -> None:
    run, result = execute(tiny, tmp_path, "triplet", budget=0.5, ratio=0.5)
    assert {path.name for path in tmp_path.iterdir()} == {
        "result.json",
        "measurements.json",
        "history.jsonl",
        "ranks.npz",
        "retrieved.npz",
        "fitting.npz",
        "beliefs.npz",
        "model.safetensors",
    }
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert (result["schema"], result["status"], result["id"]) == (1, "done", run.spec.id)
    assert RunSpec.from_dict(result["spec"]) == run.spec
    assert result["mismatched"] == np.mean(run.noise.claimed != tiny.splits["train"].true)
    assert 0.3 < result["mismatched"] <= 0.5
    assert result["beliefs"] == {}


def test_all_that_fits_is_scored_where_it_is_known(
    tiny: Dataset, make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    run, result = execute(tiny, tmp_path / "a", "triplet", budget=0.5)
    similarities, true = scored(run), tiny.splits["test"].true
    pairs = fitting_pairs(tiny)
    assert pairs is not None
    assert len(pairs) > len(true)  # captions that omit a shape fit several images
    found = evaluate_fitting(similarities, true, pairs.captions, pairs.images)
    sides = {side: asdict(getattr(found, side)) for side in ("i2t", "t2i")}
    assert result["metrics"]["fitting"] == {"pairs": len(pairs), **sides}
    stored = load_fitting(tmp_path / "a" / "fitting.npz")
    assert stored.retrieval(rank(similarities, true), true) == found
    _, without = execute(make_dataset(semantics=None), tmp_path / "b", "triplet", budget=0.5)
    assert set(without["metrics"]) == {"test"}
    assert not (tmp_path / "b" / "fitting.npz").exists()


@pytest.mark.parametrize("backbone", ["vse", "sgraf"])
def test_large_splits_have_the_same_result(
    backbone: str, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected = execute(tiny, tmp_path / "a", "triplet", backbone, budget=0.5, evaluations=2)
    monkeypatch.setattr("ncbench.evaluation.scored_blocks.MAX_MATRIX_BYTES", 0)
    monkeypatch.setattr("ncbench.training.blind_scoring.similarity_matrix", None)
    _, found = execute(tiny, tmp_path / "b", "triplet", backbone, budget=0.5, evaluations=2)
    assert found == expected
    for file, names in (("ranks", ("i2t", "t2i")), ("retrieved", ("i2t", "t2i", "true")), ("fitting", ("i2t", "t2i"))):
        one, other = (np.load(tmp_path / folder / f"{file}.npz") for folder in ("a", "b"))
        for name in names:
            np.testing.assert_array_equal(one[name], other[name])


def test_times_are_in_the_measurements_only(tiny: Dataset, tmp_path: Path) -> None:
    _, result = execute(tiny, tmp_path, "triplet", budget=0.5)
    assert not {"seconds", "started", "peak_bytes", "environment", "time", "date", "host"} & set(keys(result))
    assert str(tmp_path) not in json.dumps(result)
    found = json.loads((tmp_path / "measurements.json").read_text())
    assert set(found) == {
        "schema",
        "started",
        "seconds",
        "outside",
        "peak_bytes",
        "audited",
        "resumed_at",
        "environment",
    }
    assert found["outside"] == {}
    assert set(found["seconds"]) == {"training", "evaluation", "checkpoints"}
    assert found["seconds"]["training"] > 0
    assert found["seconds"]["evaluation"] > 0
    assert found["seconds"]["checkpoints"] == 0  # it was over before one was due
    assert found["environment"]["device"] == "cpu"
    seconds = [line["seconds"] for line in Record(tmp_path).history_lines()]
    assert seconds == sorted(seconds)
    assert seconds[-1] == found["seconds"]["training"]


def test_evaluation_is_not_charged(tiny: Dataset, tmp_path: Path) -> None:
    counts = (1, 2, 5)
    work = [execute(tiny, tmp_path / str(n), "toy", budget=0.7, evaluations=n)[1]["work"] for n in counts]
    assert work[0] == work[1] == work[2]


def test_a_loss_that_is_no_number_ends_the_run_without_a_result(tiny: Dataset, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"^the loss is nan at update 3$"):
        execute(tiny, tmp_path, "diverging")
    assert not (tmp_path / "result.json").exists()


def test_a_budget_too_small_for_one_update(tiny: Dataset, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^a budget of 0\.01 is too small for one update of triplet; raise --budget\.$"
    ):
        execute(tiny, tmp_path, "triplet", budget=0.01)
    assert list(tmp_path.iterdir()) == []


def test_work_of_a_spec(tiny: Dataset, tmp_path: Path) -> None:
    spec = prepare(tiny, tmp_path, "triplet", budget=2.5).spec
    net = build_backbone("vse", Sizes(6, 3, 10, embed=16, similarity=8, word=8))
    epoch = baseline_epoch_work(net, tiny.splits["train"].captions, 8)
    assert Work.of(spec, tiny) == Work(epoch, epoch * 8 // 48)


def test_a_setting_that_the_method_does_not_have(tiny: Dataset, tmp_path: Path) -> None:
    run = prepare(tiny, tmp_path, "toy")
    spec = RunSpec.from_dict({**run.spec.to_dict(), "settings": {"unheard_of": 1}})
    with pytest.raises(TypeError, match="unheard_of"):
        Run(spec, tiny, run.noise, Toy, tmp_path, CPU, lambda _: None)


def test_progress_is_told(tiny: Dataset, tmp_path: Path) -> None:
    seen: list[Progress] = []
    run, result = execute(tiny, tmp_path, "triplet", budget=1, evaluations=2, on_progress=seen.append)
    doing = [progress.doing for progress in seen]
    assert doing.count("training") == result["work"]["updates"] == run.trainers[0].updates
    assert doing.count("evaluating") == 2
    assert doing[-1] == "testing"
    assert seen[0].dev_rsum is None
    assert seen[-1].dev_rsum == result["selected"]["dev_rsum"]
    assert all(math.isfinite(progress.loss) for progress in seen)


def test_what_is_spent_outside_of_backbones_is_measured(tiny: Dataset, tmp_path: Path) -> None:
    execute(tiny, tmp_path / "l2rm", "l2rm", budget=4.0, settings={"warmup": 0.2})
    found = json.loads((tmp_path / "l2rm" / "measurements.json").read_text())
    assert set(found["outside"]) == {"transport", "mixture"}
    assert all(0 < seconds < found["seconds"]["training"] for seconds in found["outside"].values())
    execute(tiny, tmp_path / "triplet", "triplet", budget=0.5)  # counted anew by every run
    assert json.loads((tmp_path / "triplet" / "measurements.json").read_text())["outside"] == {}
