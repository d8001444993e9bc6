"""One run on the tiny dataset: reproducible, within its budget, honest in its record."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import prepare_run
from safetensors.torch import load_file
from toy_methods import Diverging, Toy, Twins

from ncbench import Method, Rematches, UserError
from ncbench.backbones.base import Sizes
from ncbench.backbones.graph import SAF, SGR
from ncbench.backbones.registry import build_backbone, members_of
from ncbench.budget import Budget
from ncbench.data.dataset import Dataset
from ncbench.data.fitting import fitting_pairs
from ncbench.evaluation.beliefs import detect, rank_correlation, rematch_quality
from ncbench.evaluation.fitting import evaluate_fitting
from ncbench.evaluation.retrieval import Recalls, Retrieval, evaluate, rank
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.method.registry import load_method
from ncbench.noise.registry import draw_noise
from ncbench.records.arrays import load_beliefs, load_fitting, load_retrieved
from ncbench.records.networks import read_checkpoint
from ncbench.records.progress import Progress
from ncbench.records.record import Record
from ncbench.records.spec import RunSpec
from ncbench.training import trainer
from ncbench.training.blind_scoring import score_blindly
from ncbench.training.cost import (
    MIN_STEP_FOR_THREADS,
    Work,
    baseline_epoch_work,
    denormals_flushed,
    is_small,
    threads_for,
)
from ncbench.training.run import Run
from ncbench.training.seclusion import Secluded
from ncbench.training.trainer import Diverged

CPU = torch.device("cpu")


class Believer(Toy):
    """Holds beliefs that take a forward pass to tell."""

    name = "believer"

    def pair_scores(self) -> np.ndarray:
        self._forward()
        return np.linspace(0, 1, len(self.task.data))

    def soft_labels(self) -> np.ndarray:
        self._forward()
        return np.linspace(0, 1, len(self.task.data)) ** 2

    def rematches(self) -> Rematches:
        self._forward()
        return Rematches(np.array([0, 5, 7]), np.array([0, 1, 3]), np.array([1.0, 0.5, 0.0]))

    def _forward(self) -> None:
        batch = self.task.data.batch(np.arange(len(self.task.data)))
        self.nets[0](*batch.inputs)


def scored(run: Run) -> np.ndarray:
    """The similarities of test as the run scores them."""
    with run.assessment.similarities("test") as similarities:
        assert isinstance(similarities, np.ndarray)
        return similarities


def stated(run: Run) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The scores and the rematches of Believer, with the numbers of the dataset."""
    numbering = run.numbering
    scores = np.empty(48)
    scores[numbering.captions] = np.linspace(0, 1, 48)
    captions, images = numbering.captions[[0, 5, 7]], numbering.images[[0, 1, 3]]
    order = np.argsort(captions)  # as records have them
    return scores, (captions[order], images[order], np.array([1.0, 0.5, 0.0])[order])


class Doubter(Believer):
    """Holds other beliefs for each member of an ensemble: in all pairs for SAF, and rematches for SGR only."""

    name = "doubter"

    def pair_scores(self) -> np.ndarray:
        return super().pair_scores() if self._is_sgr else np.ones(len(self.task.data))

    def soft_labels(self) -> np.ndarray:
        return super().soft_labels() if self._is_sgr else np.ones(len(self.task.data))

    def rematches(self) -> Rematches | None:
        return super().rematches() if self._is_sgr else None

    @property
    def _is_sgr(self) -> bool:
        return isinstance(self.nets[0], SGR)


def method_of(name: str) -> type[Method]:
    mine = {method.name: method for method in (Toy, Twins, Believer, Diverging, Doubter)}
    return mine[name] if name in mine else load_method(name)


def prepare(dataset: Dataset, folder: Path, method: str = "triplet", backbone: str = "vse", **changes: Any) -> Run:
    return prepare_run(dataset, folder, method_of(method), backbone, **changes)


def execute(*arguments: Any, **changes: Any) -> tuple[Run, dict[str, Any]]:
    run = prepare(*arguments, **changes)
    return run, run.execute().to_dict()


@pytest.fixture(scope="module")
def with_dropout(make_dataset: Callable[..., Dataset]) -> Dataset:
    return make_dataset(scale={"embed": 16, "similarity": 8, "word": 8, "dropout": 0.3})


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
    scores, rematches = stated(run)
    detection = detect(scores, claimed == true)
    assert result["beliefs"]["detection"] == asdict(detection)
    assert result["beliefs"]["detection"]["mismatched"] == int((claimed != true).sum())
    quality = rematch_quality(
        *rematches,
        claimed,
        lambda captions, images: tiny.semantics.closeness("train", captions, images),
        24,
    )
    assert result["beliefs"]["rematches"] == asdict(quality)
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


def denormals_are_flushed() -> bool:
    """Return whether this thread takes denormal numbers for zero."""
    return bool(torch.tensor([1e-40]) * 1.0 == 0)


def test_denormals_are_zero_in_a_run_and_not_after_it(tiny: Dataset, tmp_path: Path) -> None:
    seen: list[bool] = []
    assert not denormals_are_flushed()
    execute(tiny, tmp_path, "toy", budget=0.5, on_progress=lambda _: seen.append(denormals_are_flushed()))
    assert seen
    assert all(seen)
    assert not denormals_are_flushed()
    assert np.float64(5e-324) * 1.0 > 0


def test_denormals_are_back_after_a_failure(tiny: Dataset, tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        execute(tiny, tmp_path, "diverging")
    assert not denormals_are_flushed()


def test_denormals_are_back_after_an_error() -> None:
    with denormals_flushed():
        assert denormals_are_flushed()
    assert not denormals_are_flushed()
    with pytest.raises(ZeroDivisionError), denormals_flushed():
        raise ZeroDivisionError
    assert not denormals_are_flushed()


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let torch use four threads, as where the user has not set OMP_NUM_THREADS."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("work", "small"),
    [(1, True), (MIN_STEP_FOR_THREADS - 1, True), (MIN_STEP_FOR_THREADS, False), (10**15, False)],
)
def test_small_steps_get_one_thread(work: int, small: bool, four_threads: None) -> None:
    assert is_small(work, CPU) is small
    with threads_for(work, CPU):
        assert torch.get_num_threads() == (1 if small else 4)
    assert torch.get_num_threads() == 4


def test_threads_are_left_alone_beside_an_accelerator(four_threads: None) -> None:
    assert not is_small(1, torch.device("cuda"))
    with threads_for(1, torch.device("cuda")):
        assert torch.get_num_threads() == 4


def test_threads_that_the_user_set_are_left_alone(four_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    with threads_for(1, CPU):
        assert torch.get_num_threads() == 4


def test_threads_are_back_after_a_failure(four_threads: None) -> None:
    with pytest.raises(ZeroDivisionError), threads_for(1, CPU):
        raise ZeroDivisionError
    assert torch.get_num_threads() == 4


def test_a_tiny_run_trains_on_one_thread(tiny: Dataset, tmp_path: Path, four_threads: None) -> None:
    seen: set[int] = set()
    execute(tiny, tmp_path, "toy", budget=0.5, on_progress=lambda _: seen.add(torch.get_num_threads()))
    assert seen == {1}
    assert torch.get_num_threads() == 4


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


# Ensembles


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
    scores, rematches = stated(run)
    assert result["beliefs"]["detection"] == asdict(detect(scores, claimed == true))
    quality = rematch_quality(
        *(np.tile(part, 2) for part in rematches),
        claimed,
        lambda captions, images: tiny.semantics.closeness("train", captions, images),
        24,
    )
    assert result["beliefs"]["rematches"] == asdict(quality)
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


def test_what_is_spent_outside_of_backbones_is_measured(tiny: Dataset, tmp_path: Path) -> None:
    execute(tiny, tmp_path / "l2rm", "l2rm", budget=4.0, settings={"warmup": 0.2})
    found = json.loads((tmp_path / "l2rm" / "measurements.json").read_text())
    assert set(found["outside"]) == {"transport", "mixture"}
    assert all(0 < seconds < found["seconds"]["training"] for seconds in found["outside"].values())
    execute(tiny, tmp_path / "triplet", "triplet", budget=0.5)  # counted anew by every run
    assert json.loads((tmp_path / "triplet" / "measurements.json").read_text())["outside"] == {}
