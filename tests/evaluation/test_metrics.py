"""Metric objects: against the functions, against torchmetrics, across processes."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from places import ROOT

from ncbench import ArgumentError, DetectionMetric, RetrievalMetric, detect, evaluate

torchmetrics = pytest.importorskip("torchmetrics")

RNG = np.random.default_rng(0)
TRUE = np.repeat(np.arange(20), 3)
SCORES = torch.from_numpy(RNG.normal(size=(20, 60)) + 1.5 * (np.arange(20)[:, None] == TRUE))
P_CLEAN = RNG.uniform(size=200).round(2)
CLEAN = RNG.uniform(size=200) < 0.3 + 0.5 * P_CLEAN


def filled(order: Any = range(20), **words: Any) -> Any:
    metric = RetrievalMetric(TRUE, **words)
    for part in np.array_split(np.array(order), 4):
        metric.update(SCORES[part], part)
    return metric


@pytest.mark.parametrize("folds", [1, 4])
def test_retrieval_is_that_of_evaluate(folds: int) -> None:
    found, expected = filled(RNG.permutation(20), folds=folds).compute(), evaluate(SCORES, TRUE, folds)
    assert found["rsum"].item() == pytest.approx(expected.rsum)
    for side in ("i2t", "t2i"):
        for name in ("r1", "r5", "r10", "medr", "meanr"):
            assert found[f"{side}_{name}"].item() == pytest.approx(getattr(getattr(expected, side), name))
    assert len(found) == 11


def test_hit_rates_are_those_of_torchmetrics() -> None:
    """R@K from an image is whether one of its captions is among the first K; from a caption, whether its image is."""
    found = filled().compute()
    relevant = torch.from_numpy(np.arange(20)[:, None] == TRUE)
    images = torch.arange(20)[:, None].expand(20, 60).reshape(-1)
    captions = torch.arange(60)[None].expand(20, 60).reshape(-1)
    for k in (1, 5, 10):
        rate = torchmetrics.retrieval.RetrievalHitRate(top_k=k)
        for side, queries in (("i2t", images), ("t2i", captions)):
            expected = 100 * rate(SCORES.reshape(-1), relevant.reshape(-1), indexes=queries)
            assert found[f"{side}_r{k}"].item() == pytest.approx(expected.item(), abs=1e-4)


def test_detection_is_that_of_detect_and_of_torchmetrics() -> None:
    metric = DetectionMetric()
    for part in np.array_split(np.arange(200), 7):
        metric.update(torch.from_numpy(P_CLEAN[part]), CLEAN[part].tolist())
    found, expected = metric.compute(), detect(P_CLEAN, CLEAN)
    for name in ("auc", "precision", "recall", "calibration_error"):
        assert found[name].item() == pytest.approx(getattr(expected, name))
    wrong, clean, p = 1 - torch.from_numpy(P_CLEAN), torch.from_numpy(CLEAN), torch.from_numpy(P_CLEAN)
    classes = torchmetrics.classification
    assert found["auc"].item() == pytest.approx(classes.BinaryAUROC()(p, clean.int()).item(), abs=1e-6)
    assert found["precision"].item() == pytest.approx(classes.BinaryPrecision()(wrong, (~clean).int()).item(), abs=1e-6)
    assert found["recall"].item() == pytest.approx(classes.BinaryRecall()(wrong, (~clean).int()).item(), abs=1e-6)


def test_calibration_is_that_of_torchmetrics() -> None:
    p, clean = RNG.uniform(size=500), RNG.uniform(size=500) < 0.5
    metric = DetectionMetric()
    metric.update(p, clean)
    theirs = torchmetrics.classification.BinaryCalibrationError(n_bins=15, norm="l1")
    # Theirs bins the confidence in the class, from 0.5 on; with one class it is P(clean) itself.
    expected = theirs(torch.from_numpy(p), torch.from_numpy(clean).int()).item()
    assert metric.compute()["calibration_error"].item() == pytest.approx(expected, abs=1e-5)


def test_reset_forgets() -> None:
    metric = filled()
    before = metric.compute()
    metric.reset()
    for number in range(20):
        metric.update(SCORES[[number]], [number])
    assert metric.compute() == before


def test_what_is_undefined_is_nan() -> None:
    metric = DetectionMetric()
    metric.update([0.9, 0.8], [True, True])
    found = metric.compute()
    assert all(math.isnan(found[name]) for name in ("auc", "precision", "recall"))


def test_rows_that_come_twice_count_once() -> None:
    assert filled([*range(20), 3, 4]).compute() == filled().compute()


def gathering(other: Any, states: tuple[str, ...]) -> Callable[..., list[torch.Tensor]]:
    """Return a gather function for the process that holds one half, where another process holds `other`."""
    rest = iter([torch.cat(getattr(other, state)) for state in states])
    return lambda value, group=None: [value, next(rest)]


def test_two_processes_have_the_scores_of_one() -> None:
    other = RetrievalMetric(TRUE)
    other.update(SCORES[1::2], np.arange(20)[1::2])
    words = {"dist_sync_fn": gathering(other, ("rows", "images")), "distributed_available_fn": lambda: True}
    metric = RetrievalMetric(TRUE, **words)
    metric.update(SCORES[::2], np.arange(20)[::2])
    assert metric.compute() == filled().compute()
    assert sum(map(len, metric.rows)) == 10  # its own are back


@pytest.mark.slow
def test_real_processes_gather(tmp_path: Path) -> None:
    code = """
import sys, torch, torch.distributed as dist, torch.multiprocessing as mp
from ncbench import DetectionMetric

def main(rank, port):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    metric = DetectionMetric()
    metric.update([0.9, 0.2] if rank else [0.6, 0.7, 0.1], [True, False] if rank else [True, False, False])
    found = metric.compute()
    assert abs(found["auc"].item() - 5 / 6) < 1e-6, found
    dist.destroy_process_group()

if __name__ == "__main__":
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(main, (port,), nprocs=2)
"""
    script = tmp_path / "gather.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RetrievalMetric([0.5]), "true: expected integers"),
        (lambda: filled().update(SCORES[:2], [0]), "similarities: expected those of 1 images and all 60 captions"),
        (lambda: filled().update(SCORES[:1], [-1]), "images: expected numbers of at least 0, found -1"),
        (lambda: filled(range(19)).compute(), "similarities: 1 of 20 images are missing, for example image 19"),
        (lambda: DetectionMetric().update([0.5], [True, False]), "p_clean: expected one P(clean) per pair"),
        (lambda: DetectionMetric().update([0.5], [1]), "clean: expected booleans"),
    ],
)
def test_bad_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert str(caught.value).startswith(message)


def test_without_torchmetrics_an_object_says_what_is_missing() -> None:
    code = (
        "import sys; sys.modules['torchmetrics'] = None\n"
        "from ncbench import DetectionMetric, UserError\n"
        "try:\n    DetectionMetric()\n"
        "except UserError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "metric objects need torchmetrics; install it with: pip install 'ncbench[metrics]'\n"
