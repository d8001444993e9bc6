"""`ncbench.record`: runs that were trained outside ncbench, and what commands make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import ncbench
from ncbench import ArgumentError, UserError
from ncbench.cli import main
from ncbench.data.dataset import Dataset
from ncbench.noise.base import Noise
from ncbench.records.record import Record
from ncbench.records.table import load_runs
from ncbench.records.verification import verify_run


@pytest.fixture
def noise(tiny: Dataset) -> Noise:
    return ncbench.draw_noise(tiny, 0.4, seed=3)


@pytest.fixture
def given(tiny: Dataset, noise: Noise) -> dict[str, Any]:
    """The arguments of a training whose similarities rank every caption's image first on dev, and at random on test."""
    dev, test = (tiny.splits[name] for name in ("dev", "test"))
    perfect = (np.arange(len(dev.images))[:, None] == dev.true[None, :]).astype(np.float32)
    found = np.random.default_rng(0).random((len(test.images), len(test.captions)), np.float32)
    return {
        "test": torch.from_numpy(found),
        "dev": perfect,
        "dataset": tiny,
        "noise": noise,
        "method": "mine",
        "seconds": 7200,
        "device": "1 x  A100",
    }


def ncbench_command(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_what_is_recorded(given: dict[str, Any], tiny: Dataset, noise: Noise, tmp_path: Path) -> None:
    train = tiny.splits["train"]
    p_clean = np.where(noise.clean(train.true), 0.9, 0.2)
    folder = ncbench.record(
        **given, seed=3, flops=2.5e15, p_clean=p_clean, settings={"margin": 0.2, "tau": [1, 2]}, out=tmp_path
    )
    found = Record(folder)
    assert folder == tmp_path / "tiny" / "mine" / found.spec.id
    assert found.result.metrics.test.rsum == ncbench.evaluate(given["test"], tiny.splits["test"].true).rsum
    assert found.result.selected.dev_rsum == 600
    assert (found.result.work.used, found.result.baseline_epochs) == (2_500_000_000_000_000, None)
    assert found.result.beliefs.detection is not None
    assert found.result.beliefs.detection.auc == 1
    assert found.result.mismatched == noise.mismatch(train.true)
    assert (found.spec.seed, found.spec.noise, found.spec.backbone) == (3, 0.4, "own")
    assert found.spec.settings == {"margin": 0.2, "tau": [1, 2]}
    assert str(found.spec.budget) == "self-reported"
    assert found.measurements is not None
    assert found.measurements.seconds.total == 7200
    assert found.measurements.environment.device == "1 x A100"
    assert found.noise.digest == noise.digest
    assert verify_run(folder, lambda record: tiny) == []


def test_a_changed_score_is_found(given: dict[str, Any], tmp_path: Path) -> None:
    folder = ncbench.record(**given, out=tmp_path)
    content = json.loads((folder / "result.json").read_text())
    content["metrics"]["test"]["rsum"] += 1
    (folder / "result.json").write_text(json.dumps(content))
    (problem,) = verify_run(folder)
    assert problem.startswith("test rsum is")


def test_nothing_is_overwritten(given: dict[str, Any], tmp_path: Path) -> None:
    folder = ncbench.record(**given, out=tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    given["test"] = given["test"] * -1
    with pytest.raises(UserError, match=r"mine/\w{12}: this run is recorded already; change the seed or settings"):
        ncbench.record(**given, out=tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert ncbench.record(**given, seed=1, out=tmp_path) != folder
    assert ncbench.record(**given, settings={"tau": 0.1}, out=tmp_path) != folder


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dataset": "scenes"}, "dataset: expected an ncbench.Dataset, as ncbench.load_dataset returns, found str"),
        ({"noise": 0.4}, "noise: expected noise of ncbench.draw_noise, found float"),
        ({"method": "my method"}, "method: expected a name of letters, digits, '.', '_' and '-', found 'my method'"),
        ({"method": "l2rm"}, "method: l2rm is a method of ncbench; expected a name of your own, such as l2rm-mine"),
        ({"backbone": ""}, "backbone: expected a name of letters, digits, '.', '_' and '-', found ''"),
        ({"device": " "}, "device: expected what the training ran on, such as \"1 x A100\", found ' '"),
        ({"seconds": 0}, "seconds: expected a positive number, found 0"),
        ({"seconds": float("inf")}, "seconds: expected a positive number, found inf"),
        ({"seconds": "2h"}, "seconds: expected a positive number, found '2h'"),
        ({"flops": 1e31}, "flops: expected a positive number, found 1e+31"),
        ({"seed": -1}, "seed -1 is not a non-negative integer"),
        ({"settings": {"net": {1, 2}}}, "settings: expected names with plain values, found {'net': {1, 2}}"),
        ({"settings": {"tau": float("nan")}}, "settings: expected names with plain values, found {'tau': nan}"),
        ({"settings": {"text": "a" * 10_000}}, "settings: expected at most 10000 characters as JSON, found 10012"),
        ({"p_clean": [0.5]}, "p_clean: expected one probability for each of 48 pairs, found shape (1,)"),
        ({"p_clean": np.full(48, np.nan)}, "p_clean: expected probabilities in [0, 1]"),
        ({"dev": np.zeros((2, 3))}, "dev: expected similarities (images, captions) ("),
    ],
)
def test_invalid_arguments(given: dict[str, Any], changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        ncbench.record(**{**given, **changed}, out=tmp_path)
    assert str(caught.value).startswith(message)
    assert not list(tmp_path.iterdir())


def test_similarities_that_are_not_finite(given: dict[str, Any], tmp_path: Path) -> None:
    given["test"][0, 0] = float("nan")
    with pytest.raises(ArgumentError, match=r"^test: expected finite similarities, found NaN or infinity$"):
        ncbench.record(**given, out=tmp_path)


def test_noise_on_another_dataset(given: dict[str, Any], noise: Noise, tmp_path: Path) -> None:
    given["noise"] = Noise(noise.protocol, "1", "images", 0.4, 0, noise.claimed[:40], noise.digest)
    with pytest.raises(ArgumentError, match=r"^noise: expected noise on the 48 training pairs .*, found noise on 40 "):
        ncbench.record(**given, out=tmp_path)


def test_reports_show_them_apart(given: dict[str, Any], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name in ("mine", "yours"):
        ncbench.record(**{**given, "method": name}, seed=3, out=runs)
    table = load_runs(runs)
    assert sorted(table["variant"]) == ["mine (self-reported)", "yours (self-reported)"]
    assert table["used"].isna().all()
    assert ncbench_command("report", "--runs", runs, "--out", tmp_path / "board").exit_code == 0
    page = (tmp_path / "board" / "tiny" / "README.md").read_text()
    assert "own, self-reported budget, not compute-matched" in page
    assert "mine (self-reported)" in page
    assert "| 7,200" in page


def test_commands_tell_them(given: dict[str, Any], tmp_path: Path) -> None:
    folder = ncbench.record(**given, seed=3, out=tmp_path / "runs")
    shown = ncbench_command("show", folder)
    assert shown.exit_code == 0
    assert "cost: self-reported, training 2.0 h, device 1 x A100\n" in shown.output
    assert "selected: dev rSum 600.0\n" in shown.output
    listed = ncbench_command("runs", "--runs", tmp_path / "runs")
    assert listed.exit_code == 0
    assert "self-reported" in listed.output
    verified = ncbench_command("verify", tmp_path / "runs")
    assert (verified.exit_code, verified.output.splitlines()) == (
        0,
        [
            "1 run checked, 0 with problems",
            "1 self-reported: trained outside ncbench, which did not count the work",
        ],
    )


def test_what_ncbench_cannot_do_with_them(given: dict[str, Any], tmp_path: Path) -> None:
    folder = ncbench.record(**given, out=tmp_path / "runs")
    replayed = ncbench_command("replay", folder, "--out", tmp_path / "again")
    assert (replayed.exit_code, replayed.output) == (
        2,
        f"Error: {folder}: mine was trained outside ncbench, which cannot train it again.\n",
    )
    evaluated = ncbench_command("eval", "--checkpoint", folder, "--dataset", "scenes-vectors")
    assert evaluated.exit_code == 2
    assert "model.safetensors is missing, as ncbench did not train this run" in evaluated.output
    ran = ncbench_command("run", "--method", "triplet", "--budget", "self-reported")
    assert ran.exit_code == 2
    assert "'self-reported' is not a valid budget" in ran.output


def test_a_submission_carries_them(given: dict[str, Any], tmp_path: Path) -> None:
    folder = ncbench.record(**given, seed=3, out=tmp_path / "runs")
    file = tmp_path / "mine.json"
    sent = ncbench_command("submit", "--name", "mine", "--contact", "me", "--about", "x", folder, "--out", tmp_path)
    assert sent.exit_code == 0, sent.output
    verified = ncbench_command("verify", file)
    assert verified.exit_code == 0, verified.output
    assert "  self-reported, trained outside ncbench: mine\n" in verified.output
    assert ncbench_command("unpack", file, "--out", tmp_path / "there").exit_code == 0
    assert load_runs(tmp_path / "there")["variant"].tolist() == ["mine (self-reported)"]


def test_no_answer_comes_from_them(given: dict[str, Any], tmp_path: Path) -> None:
    for seed in range(2):
        ncbench.record(**given, seed=seed, out=tmp_path / "runs")
    with pytest.warns(RuntimeWarning, match=r"no (retrieved|rematched) examples for tiny"):
        ncbench.report_runs(tmp_path / "runs", tmp_path / "board")
    page = (tmp_path / "board" / "tiny" / "README.md").read_text()
    assert "**Only self-reported runs are here: there is nothing to choose from.**" in page
