"""A loss of the wrong shape: the line of the method's file, in a run and in the checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sources import Source

import ncbench
from ncbench import Optimiser, UserError
from ncbench.budget import WorkMeter
from ncbench.checks.method.candidate import Candidate
from ncbench.checks.method.learning import TRAINS
from ncbench.checks.verdicts import judge
from ncbench.data.dataset import Dataset
from ncbench.method.registry import load_method

SINGLE = """
from ncbench import SingleNetwork, losses


class Mine(SingleNetwork):
    name = "mine"

    def loss(self, similarities, batch):
        return losses.pair_losses(similarities, 0.2)
"""
OWN = """
from dataclasses import dataclass

from ncbench import Method, Optimiser, TrainingSettings, losses


class Mine(Method):
    name = "mine"

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        pass

    def setup(self, task):
        self.task, self.net = task, task.new_backbone()
        self.optimiser = Optimiser.of(self.config, [self.net], task.budget)

    def train_epoch(self, epoch):
        for batch in self.task.data.batches(8, self.task.rng("order")):
            loss = losses.pair_losses(self.net(*batch.inputs), 0.2)
            self.optimiser.step(loss)
            yield {"loss": 0.0}
"""
TOLD = "must be a scalar, found shape (8,); return its mean or sum"


@pytest.mark.parametrize(
    ("text", "start", "place"),
    [
        (SINGLE, "what loss() returns (mine.py, line 8) ", "(mine.py, line 8)"),
        (OWN, "the loss ", "(mine.py, line 21)"),
    ],
)
def test_a_run_and_the_checks_name_the_line(
    text: str, start: str, place: str, tmp_path: Path, register: Callable[..., None], tiny: Dataset
) -> None:
    register("ncbench.datasets", "tiny", Source(tiny))
    path = tmp_path / "mine.py"
    path.write_text(text)
    settings = {"set": {"mine.batch_size": 8}} if text is SINGLE else {}
    with pytest.warns(RuntimeWarning) as caught, pytest.raises(UserError, match="all runs failed"):
        ncbench.run(str(path), 0.4, dataset="tiny", backbone="vse", budget=1, out=tmp_path / "runs", **settings)
    (message,) = {str(warning.message) for warning in caught if "failed" in str(warning.message)}
    assert f"{start}{TOLD}" in message
    assert place in message
    candidate = Candidate(load_method(str(path)), tmp_path / "checks")
    (verdict,) = judge([TRAINS], candidate)
    assert verdict.outcome == "fail"
    assert place in verdict.detail
    assert "return its mean or sum" in verdict.detail


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (torch.zeros(3), r"the loss must be a scalar, found shape \(3,\)"),
        (0.5, "the loss must be a tensor, found float"),
    ],
)
def test_the_optimiser_refuses_what_is_no_loss(loss: object, message: str) -> None:
    optimiser = Optimiser([torch.nn.Linear(2, 2)], WorkMeter(1), lr=0.1)
    with pytest.raises(ValueError, match=message):
        optimiser.step(loss)  # type: ignore[arg-type]
