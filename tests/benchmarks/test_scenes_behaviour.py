"""The facts of the field that must show on `scenes`, and the script that measures them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import scenes_behaviour
import torch
from scenes_behaviour import BATCH_SIZE, LOG, OFTEN, ROUNDINGS, Cell, as_line, captions, cells_of, published, train

from ncbench.backbones import registry
from ncbench.backbones.base import Sizes
from ncbench.data.registry import load_dataset
from ncbench.sweeps.grid import Grid, plan_sweep

SEED = 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def scores(ratio: float, methods: str, runs: Path) -> dict[str, dict[str, Any]]:
    return {method: train(Cell(method, ratio, SEED), runs) for method in methods.split()}


@pytest.mark.slow
@pytest.mark.behaviour
def test_without_noise_methods_are_equally_good(runs: Path) -> None:
    found = [one["test_rsum"] for one in scores(0.0, "triplet rce l2rm", runs).values()]
    assert min(found) > 0.95 * max(found)
    assert min(found) > 450


@pytest.mark.slow
def test_noise_ruins_plain_training_and_rematching_withstands_it(runs: Path) -> None:
    found = scores(0.4, "l2rm oracle", runs)
    oracle = found["oracle"]["test_rsum"]
    plain = train(Cell("triplet", 0.4, SEED, evaluations=OFTEN), runs)
    assert plain["test_rsum"] < 0.5 * oracle
    curve = plain["dev_curve"]
    assert len(curve) == OFTEN
    assert curve[-1] < 0.8 * max(curve)
    assert curve[0] < max(curve)
    assert found["l2rm"]["test_rsum"] > 0.9 * oracle
    assert found["l2rm"]["detection_auc"] > 0.95


@pytest.mark.slow
@pytest.mark.behaviour
def test_a_robust_loss_withstands_noise(runs: Path) -> None:
    found = scores(0.4, "rce oracle", runs)
    assert found["rce"]["test_rsum"] > 0.9 * found["oracle"]["test_rsum"]


@pytest.mark.slow
@pytest.mark.behaviour
def test_rematching_withstands_most_pairs_being_wrong(runs: Path) -> None:
    found = scores(0.8, "l2rm oracle", runs)
    assert found["l2rm"]["test_rsum"] > 0.6 * found["oracle"]["test_rsum"]


@pytest.mark.slow
def test_captions_identify_their_pictures() -> None:
    found = captions(load_dataset("scenes", None))
    assert found["rsum"] >= 590
    assert found["ambiguous"] <= 0.03
    assert 12 < found["words"] < 15
    assert (found["fit_others"], found["other_fits"], found["true_fits"]) == (230, 641, 36)
    assert BATCH_SIZE == 128


def test_the_most_important_runs_come_first_and_none_twice() -> None:
    cells = cells_of(["noise", "peak", "rounding"], [0, 1])
    assert len(set(cells)) == len(cells)
    assert {cell.ratio for cell in cells[:11]} == {0.0, 0.4, 0.8}
    assert {cell.seed for cell in cells[:22]} == {0, 1}
    assert [cell.seed for cell in cells if cell.evaluations == OFTEN] == [0, 1]
    assert {cell.rounding for cell in cells} == set(ROUNDINGS)
    assert all(cell.seed == 0 for cell in cells if cell.rounding != ROUNDINGS[0])


def test_runs_that_round_differently_are_kept_apart(tmp_path: Path) -> None:
    folders = {Cell("rce", 0.4, 0, rounding).folder(tmp_path) for rounding in ROUNDINGS}
    assert len(folders) == len(ROUNDINGS)


def test_a_line_says_what_was_measured() -> None:
    numbers = {
        "method": "rce",
        "noise": 0.4,
        "seed": 1,
        "rounding": "1 thread",
        "test_rsum": 499.62,
        "dev_curve": [423.1, 514.6],
        "detection_auc": None,
    }
    assert as_line(numbers) == "rce at 0.4, seed 1, 1 thread: test rSum 499.6, dev [423.1, 514.6]"
    assert as_line({**numbers, "detection_auc": 0.987}).endswith(", AUC 0.987")


def test_first_weights_are_moved_by_very_little() -> None:
    sizes = Sizes(image_dim=3, n_regions=2, vocabulary=9, embed=4, word=5)
    torch.manual_seed(0)
    before = registry.build_backbone("vse", sizes).state_dict()
    torch.manual_seed(0)
    after = scenes_behaviour.moved(registry.build_backbone("vse", sizes)).state_dict()
    differences = [(after[name] - before[name]).abs().max() / before[name].abs().max() for name in before]
    assert 0 < max(differences) < 2 * scenes_behaviour.MOVED_BY


@pytest.mark.parametrize("method", ["triplet", "rce", "oracle"])
def test_settings_are_those_that_were_measured(method: str) -> None:
    """Presets have changed since; `l2rm` has more settings now, so that its runs have other ids."""
    (planned,) = plan_sweep(
        Grid(["scenes"], ["shuffle-images"], [0.4], [method], [], [], [SEED], overrides=published(method))
    )
    log = json.loads(LOG.read_text())["runs"]
    assert planned.spec.id in {run["id"] for run in log if (run["method"], run["noise"]) == (method, 0.4)}
