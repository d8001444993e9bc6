"""What is within reach of L2RM's queue: closed formulas against queues that are drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from reach import main, mass_that_fits, reach, reach_of_run

from ncbench import UserError
from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import Beliefs
from ncbench.method.base import Plan, Rematches


def test_reach_agrees_with_queues_that_are_drawn() -> None:
    rng = np.random.default_rng(0)
    pairs, n_images, queue = 60, 12, 8
    true = np.arange(pairs) % n_images
    claimed = rng.integers(n_images, size=pairs)
    fits = rng.random((pairs, n_images)) < 0.1
    fits[np.arange(pairs), true] = True
    captions = rng.permutation(pairs)[:40]
    images = rng.integers(n_images, size=40)
    found = reach(captions, images, claimed, true, fits, queue)
    draws = []
    wrong = [caption for caption in captions if not fits[caption, claimed[caption]]]
    for caption in wrong:
        others = captions[captions != caption]
        for _ in range(400):
            drawn = claimed[np.append(rng.choice(others, queue - 1, replace=False), caption)]
            fitting = fits[caption, drawn]
            draws.append((true[caption] in drawn, fitting.any(), fitting.sum()))
    expected = np.mean(draws, axis=0)
    assert len(wrong) < 40
    assert (found.own, found.fitting, found.count) == pytest.approx(tuple(expected), rel=0.05)
    hits = [fits[caption, image] for caption, image in zip(captions, images, strict=True) if caption in wrong]
    assert found.correct == pytest.approx(np.mean(hits))
    assert found.found == pytest.approx(found.correct / found.fitting)


def test_a_queue_of_all_captions_reaches_all_images() -> None:
    true = np.arange(4)
    found = reach(true, np.array([0, 1, 3, 2]), np.roll(true, 1), true, np.eye(4, dtype=bool), queue=10)
    assert (found.own, found.fitting, found.count, found.correct) == (1, 1, 1, 0.5)


def test_captions_that_fit_need_no_rematch() -> None:
    true = np.arange(4)
    with pytest.raises(ValueError, match="captions that do not fit"):
        reach(true, true, true, true, np.eye(4, dtype=bool), queue=4)


def test_the_mass_on_images_that_fit() -> None:
    fits = np.zeros((5, 3), bool)
    fits[4, 2] = fits[1, 0] = True
    plan = Plan(captions=np.array([4, 1]), images=np.array([2, 0]), mass=np.array([[0.3, 0.2], [0.1, 0.4]]))
    assert mass_that_fits(plan, fits) == pytest.approx(0.7)
    assert np.isnan(mass_that_fits(Plan(plan.captions, plan.images, np.zeros((2, 2))), fits))


def made(dataset: Dataset, rematches: Rematches | None) -> SimpleNamespace:
    """Return what `reach_of_run` reads of a record."""
    claimed = np.roll(dataset.splits["train"].true, 7)
    plan = Plan(np.arange(4), np.arange(4), np.eye(4) / 4)
    return SimpleNamespace(
        beliefs=Beliefs(None, None, rematches, np.arange(0), plan),
        dataset=lambda root: dataset,
        folder=Path("run"),
        noise=SimpleNamespace(claimed=claimed),
        spec=SimpleNamespace(settings={"queue": 8}),
    )


def test_the_table_has_a_row_per_noise_and_variant(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    true = tiny.splits["train"].true
    perfect = Rematches(np.arange(len(true)), true, np.ones(len(true)))
    records = {"a": made(tiny, perfect), "b": made(tiny, perfect), "c": made(tiny, None)}
    rows = [("a", 0.4, "l2rm", 500.0), ("b", 0.4, "l2rm", 510.0), ("c", 0.4, "rce", 520.0)]
    frame = pd.DataFrame(rows, columns=["folder", "noise", "variant", "rsum"])
    monkeypatch.setattr("reach.load_runs", lambda runs: frame)
    monkeypatch.setattr("reach.Record", lambda folder: records[str(folder)])
    lines = CliRunner().invoke(main, ["."]).output.splitlines()
    assert len(lines) == 3
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[:2] == ["0.4", "l2rm"]
    assert cells[-2:] == ["505.0", "2"]
    assert cells[5] == "1.00"  # correct
    meaningless = made(replace(tiny, semantics=None), perfect)
    with pytest.raises(UserError, match="does not say which images fit"):
        reach_of_run(meaningless)


def test_records_without_rematches_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("reach.load_runs", lambda runs: pd.DataFrame(columns=["folder", "noise", "variant", "rsum"]))
    result = CliRunner().invoke(main, [str(tmp_path)])
    assert isinstance(result.exception, UserError)
    assert f"{tmp_path} has no runs with rematches and a plan" in str(result.exception)
