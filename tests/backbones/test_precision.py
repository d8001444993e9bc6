"""Precision: TF32 is enabled in runs only; bf16 keeps scores, gradients and training close to float32."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from golden_networks import Golden, load_golden
from sources import Source
from torch import Tensor, nn

from ncbench import Method, Optimiser, Task, UserError, losses, setting
from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.precision import PRECISIONS, Precision, matmul_precision
from ncbench.backbones.registry import BACKBONES, build_backbone, check_precision
from ncbench.budget import Budget
from ncbench.data.dataset import Dataset
from ncbench.evaluation.retrieval import ranks_i2t, ranks_t2i
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.method.settings import Override
from ncbench.records.networks import read_checkpoint
from ncbench.records.store import Store
from ncbench.sweeps.execution import Outcome, execute
from ncbench.sweeps.grid import Grid, plan_sweep
from ncbench.training.run import Run

CPU = torch.device("cpu")
ABLE = ("saf", "sgr", "sgraf")

# Of scores in (0, 1), on the golden fixtures: 0.0010 of SGR and 0.0021 of SAF were found.
SCORE_BOUND = 5e-3
# Lowest cosine of the gradients of a weight in both precisions: 0.992 was found.
COSINE = 0.99


def score(backbone: Backbone, golden: Golden, precision: Precision) -> Tensor:
    backbone.use_precision(precision)
    return backbone(golden["images"], golden["captions"], golden["lengths"])


# CUDA flags


def flags() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture(params=[(False, False), (True, True), (False, True), (True, False)])
def before(request: pytest.FixtureRequest) -> Iterator[tuple[bool, bool]]:
    """Set both flags for one test, as a user might."""
    held = flags()
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = request.param
    yield request.param
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = held


@pytest.mark.parametrize(("precision", "allowed"), [("float32", False), ("tf32", True), ("bf16", False)])
def test_tf32_is_allowed_where_it_is_asked_for(precision: Precision, allowed: bool, before: tuple[bool, bool]) -> None:
    with matmul_precision(precision):
        assert flags() == (allowed, allowed)
    assert flags() == before
    with pytest.raises(ZeroDivisionError), matmul_precision(precision):
        raise ZeroDivisionError
    assert flags() == before


def test_names_of_precisions() -> None:
    assert PRECISIONS == get_args(Precision) == ("float32", "tf32", "bf16")


# Backbones that support it


def test_backbones_with_bf16() -> None:
    for name in BACKBONES:
        check_precision(name, "float32")
        check_precision(name, "tf32")
        if name in ABLE:
            check_precision(name, "bf16")


@pytest.mark.parametrize("name", sorted(set(BACKBONES) - set(ABLE)))
def test_backbones_without_bf16(name: str) -> None:
    with pytest.raises(UserError) as caught:
        check_precision(name, "bf16")
    assert f"bf16 is not supported by {name}" in str(caught.value)
    assert "one of saf, sgr, sgraf" in str(caught.value)


def test_an_ensemble_hands_its_precision_on() -> None:
    net = build_backbone("sgraf", Sizes(6, 3, 10, embed=16, similarity=8, word=8, dropout=0.0))
    assert [member.precision for member in net.members] == ["float32"] * 2
    net.use_precision("bf16")
    assert [part.precision for part in (net, *net.members)] == ["bf16"] * 3
    net.use_precision("float32")
    assert [part.precision for part in (net, *net.members)] == ["float32"] * 3


# Scores and gradients


@pytest.mark.parametrize("name", ["sgr", "saf"])
def test_scores_in_bf16(name: str) -> None:
    golden, backbone = load_golden(name)
    with torch.no_grad():
        exact, low = (score(backbone, golden, precision) for precision in ("float32", "bf16"))
    torch.testing.assert_close(exact, golden["sims"], rtol=0, atol=1e-5)
    assert low.dtype == torch.float32
    error = (low - exact).abs().max().item()
    assert 0 < error < SCORE_BOUND
    # Scores of 8 bits would tie: between 0.5 and 1 they come in steps of 1/256.
    assert len(low.unique()) == low.numel()
    assert np.corrcoef(low.flatten(), exact.flatten())[0, 1] > 0.98


@pytest.mark.parametrize("name", ["sgr", "saf"])
def test_what_is_encoded_in_bf16_is_stored_in_single_precision(name: str) -> None:
    golden, backbone = load_golden(name)
    backbone.use_precision("bf16")
    with torch.no_grad():
        images = backbone.encode_images(golden["images"])
        captions = backbone.encode_captions(golden["captions"], golden["lengths"])
    for part in (*images.parts, *captions.parts[:2]):
        assert part.dtype == torch.float32
        lengths = part.norm(dim=-1)
        assert ((lengths - 1).abs().lt(1e-5) | lengths.eq(0)).all()  # unit vectors, to more than 8 bits
    torch.testing.assert_close(captions.parts[0], golden["cap_emb"], rtol=0, atol=1e-6)  # recurrent: in float32
    torch.testing.assert_close(images.parts[0], golden["img_emb"], rtol=0, atol=1e-2)


@pytest.mark.parametrize("name", ["sgr", "saf"])
def test_float32_and_tf32_are_the_same_on_a_cpu(name: str) -> None:
    golden, backbone = load_golden(name)
    with torch.no_grad():
        assert torch.equal(score(backbone, golden, "float32"), score(backbone, golden, "tf32"))


@pytest.mark.parametrize("name", ["sgr", "saf"])
def test_precision_can_be_changed_back(name: str) -> None:
    golden, backbone = load_golden(name)
    with torch.no_grad():
        first, _, again = (score(backbone, golden, precision) for precision in ("float32", "bf16", "float32"))
    assert torch.equal(first, again)


def gradients(backbone: Backbone, golden: Golden, precision: Precision) -> dict[str, Tensor]:
    backbone.zero_grad()
    # The mean over all negatives: which of them is the hardest may differ.
    losses.hinge_mean(score(backbone, golden, precision), 0.2).backward()
    return {name: weight.grad.clone() for name, weight in backbone.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("name", ["sgr", "saf"])
def test_gradients_in_bf16(name: str) -> None:
    golden, backbone = load_golden(name)
    backbone.train()
    exact, low = (gradients(backbone, golden, precision) for precision in ("float32", "bf16"))
    assert exact.keys() == low.keys()
    large = 0
    norm = torch.cat([gradient.flatten() for gradient in exact.values()]).norm()
    for key, gradient in exact.items():
        assert low[key].dtype == torch.float32
        assert low[key].isfinite().all(), key
        if gradient.ndim == 2 and gradient.norm() > 1e-2 * norm:
            large += 1
            assert not torch.equal(gradient, low[key])
            assert nn.functional.cosine_similarity(gradient.flatten(), low[key].flatten(), dim=0) > COSINE, key
            assert low[key].norm().item() == pytest.approx(gradient.norm().item(), rel=0.15), key
    assert large >= 8
    whole = [torch.cat([gradient.flatten() for gradient in each.values()]) for each in (exact, low)]
    assert nn.functional.cosine_similarity(*whole, dim=0) > 0.99


def test_the_ensemble_in_bf16_is_the_mean_of_its_members_in_bf16() -> None:
    torch.manual_seed(0)
    net = build_backbone("sgraf", Sizes(24, 36, 50, embed=32, similarity=16, word=20, dropout=0.0)).eval()
    golden, _ = load_golden("sgr")
    with torch.no_grad():
        exact = score(net, golden, "float32")
        low = score(net, golden, "bf16")
        each = [score(member, golden, "bf16") for member in net.members]
    torch.testing.assert_close(low, (each[0] + each[1]) / 2, rtol=0, atol=1e-6)
    assert 0 < (low - exact).abs().max() < SCORE_BOUND


# Runs


class Quick(Method):
    """A method for the runs of this file; it records the precision of its networks and the CUDA flags."""

    name = "quick"
    seen: list[tuple[str, str, tuple[bool, bool]]] = []

    @dataclass(frozen=True)
    class Config:
        batch_size: int = setting(8, "pairs", "here")

    def setup(self, task: Task) -> None:
        self.task, self.net = task, task.new_backbone()
        self.optimiser = Optimiser([self.net], task.budget, lr=1e-2)
        self.rng = task.rng("order")

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        for batch in self.task.data.batches(self.config.batch_size, self.rng):
            self.seen.append((type(self.net).__name__, self.net.precision, flags()))
            loss = losses.hinge_mean(self.net(*batch.inputs), 0.2)
            self.optimiser.step(loss)
            yield {"loss": loss.item()}


@pytest.fixture
def grid(register: Callable[[str, str, object], None], tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> Grid:
    """A grid of one run, of SGR on `tiny`."""
    monkeypatch.setattr(Quick, "seen", [])
    register("ncbench.datasets", "tiny", Source(tiny))
    register("ncbench.methods", "quick", Quick)
    return Grid(["tiny"], ["shuffle-captions"], [0.2], ["quick"], ["sgr"], [Budget(2.0)], [0], evaluations=2)


def run(grid: Grid, root: Path) -> Outcome:
    (planned,) = plan_sweep(grid)
    return execute(planned, Store(root), CPU, lambda _: None)


@pytest.mark.parametrize("method", ["quick", "triplet", "l2rm"])
@pytest.mark.parametrize("backbone", ["sgr", "saf", "sgraf"])
def test_a_run_in_bf16(method: str, backbone: str, grid: Grid, tiny: Dataset, tmp_path: Path) -> None:
    small = [Override(method, "batch_size", "8")]
    grid = replace(grid, methods=[method], backbones=[backbone], overrides=small, precision="bf16")
    outcome = run(grid, tmp_path)
    assert (outcome.status, outcome.error) == ("done", None)
    result = outcome.result
    assert outcome.spec.precision == result.spec.precision == "bf16"
    assert json.loads((outcome.folder / "spec.json").read_text())["precision"] == "bf16"
    assert result.id == outcome.folder.name == outcome.spec.id
    history = [json.loads(line) for line in (outcome.folder / "history.jsonl").read_text().splitlines()]
    assert all(math.isfinite(line["loss"]) for line in history)
    # Evaluation uses the same networks in the same precision, and the stored weights are exact.
    nets = read_checkpoint(outcome.folder).build(tiny)
    for net in nets:
        net.use_precision("bf16")
        weight = net.head.weight
        assert weight.dtype == torch.float32
        assert not torch.equal(weight, weight.bfloat16().float())
    low = similarity_matrix(nets, tiny.splits["test"], CPU)
    for net in nets:
        net.use_precision("float32")
    exact = similarity_matrix(nets, tiny.splits["test"], CPU)
    assert 0 < np.abs(low - exact).max() < 0.02
    ranks = np.load(outcome.folder / "ranks.npz")
    np.testing.assert_array_equal(ranks["i2t"], ranks_i2t(low, tiny.splits["test"].true))
    np.testing.assert_array_equal(ranks["t2i"], ranks_t2i(low, tiny.splits["test"].true))


def test_training_in_bf16_learns(grid: Grid, tmp_path: Path) -> None:
    found = {}
    for precision in ("float32", "bf16"):
        grids = [replace(grid, ratios=[0.0], budgets=[Budget(12.0)], precision=precision, seeds=[n]) for n in range(3)]
        found[precision] = np.mean([run(each, tmp_path).result.metrics.test.rsum for each in grids])
    # Chance is about 300 of 600 on 8 images.
    assert min(found.values()) > 350


@pytest.mark.parametrize("precision", PRECISIONS)
def test_networks_and_device_are_told_the_precision_of_a_run(precision: Precision, grid: Grid, tmp_path: Path) -> None:
    held = flags()
    outcome = run(replace(grid, backbones=["sgraf"], budgets=[Budget(0.5)], precision=precision), tmp_path)
    assert outcome.status == "done", outcome.error
    tf32 = precision == "tf32"
    assert set(Quick.seen) == {("SGR", precision, (tf32, tf32)), ("SAF", precision, (tf32, tf32))}
    assert flags() == held


def test_flags_are_back_after_a_failed_run(grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Run) -> None:
        assert flags() == (True, True)
        raise ZeroDivisionError

    held = flags()
    monkeypatch.setattr(Run, "_execute", fail)
    outcome = run(replace(grid, precision="tf32"), tmp_path)
    assert isinstance(outcome.error, ZeroDivisionError)
    assert flags() == held != (True, True)


def test_precisions_are_runs_of_their_own(grid: Grid, tmp_path: Path) -> None:
    outcomes = [run(replace(grid, budgets=[Budget(0.5)], precision=precision), tmp_path) for precision in PRECISIONS]
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    assert len({outcome.folder for outcome in outcomes}) == 3
    ids = [outcome.spec.id for outcome in outcomes]
    assert replace(outcomes[2].spec, precision="float32").id == ids[0]
    again = run(replace(grid, budgets=[Budget(0.5)], precision="bf16"), tmp_path)
    assert (again.status, again.spec.id) == ("kept", ids[2])


def test_a_grid_with_a_backbone_that_has_no_bf16_is_refused(grid: Grid) -> None:
    with pytest.raises(UserError, match="bf16 is not supported by scan-t2i-lse"):
        plan_sweep(replace(grid, backbones=["sgr", "scan"], precision="bf16"))
    assert len(plan_sweep(replace(grid, backbones=["sgr", "scan"], precision="tf32"))) == 2
