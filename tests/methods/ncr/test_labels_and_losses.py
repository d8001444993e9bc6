"""Labels, losses and published settings of NCR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from set_up import set_up_ncr
from similarities import EXAMPLE, uniform
from torch import Tensor

from ncbench import Task, losses
from ncbench_methods._coteaching import agreement, hinge_max_by_entry
from ncbench_methods.ncr import NCR, clean_labels, predict

MakeTask = Callable[..., Task]


def naive_hinge(scores: Tensor, rows: Callable[[int, int], float], columns: Callable[[int, int], float]) -> float:
    """Hardest negatives; margins of image i against caption j by the two functions."""
    n, total = len(scores), 0.0
    for k in range(n):
        total += max(max(0.0, rows(k, j) + scores[k, j].item() - scores[k, k].item()) for j in range(n) if j != k)
        total += max(max(0.0, columns(i, k) + scores[i, k].item() - scores[k, k].item()) for i in range(n) if i != k)
    return total


def naive_losses(scores: Tensor, margin: float) -> list[float]:
    n, found = len(scores), []
    for k in range(n):
        costs = [max(0.0, margin + scores[k, j].item() - scores[k, k].item()) for j in range(n) if j != k]
        costs += [max(0.0, margin + scores[i, k].item() - scores[k, k].item()) for i in range(n) if i != k]
        found.append(sum(costs) / n)
    return found


def naive_agreement(scores: Tensor, margin: float) -> list[float]:
    return [min(margin, max(0.0, margin - loss / 2)) for loss in naive_losses(scores, margin)]


def test_worked_example_of_predictions() -> None:
    torch.testing.assert_close(
        agreement(EXAMPLE, 0.2), torch.tensor([0.191667, 0.125, 0.116667]).double(), atol=1e-6, rtol=0
    )
    expected = torch.tensor([1, 0.652174, 0.608696]).double()
    torch.testing.assert_close(predict(EXAMPLE, 0.2, 1), expected, atol=1e-6, rtol=0)


def test_worked_example_of_a_clean_batch() -> None:
    labels = clean_labels(predict(EXAMPLE, 0.2, 1), np.array([0.9, 0.6, 0.2]), released=False)
    torch.testing.assert_close(labels, torch.tensor([1, 0.860870, 0.686957]).double(), atol=1e-6, rtol=0)
    margins = losses.soft_margin(labels, 0.2)
    torch.testing.assert_close(margins, torch.tensor([0.2, 0.139086, 0.085857]).double(), atol=1e-6, rtol=0)
    assert losses.hinge_max(EXAMPLE, margins).item() == pytest.approx(0.599887, abs=1e-6)


def test_worked_example_of_a_clean_batch_as_released() -> None:
    labels = clean_labels(predict(EXAMPLE, 0.2, 1), np.array([0.9, 0.6, 0.2]), released=True)
    margins = losses.soft_margin(labels, 0.2)
    expected = [[0.2, 0.182896, 0.180853], [0.2, 0.139086, 0.132754], [0.2, 0.094870, 0.085857]]
    torch.testing.assert_close(margins, torch.tensor(expected).double(), atol=1e-6, rtol=0)
    assert hinge_max_by_entry(EXAMPLE, margins).item() == pytest.approx(0.676171, abs=1e-6)


def test_worked_example_of_a_noisy_batch() -> None:
    margins = losses.soft_margin(predict(EXAMPLE, 0.2, 1), 0.2)
    rows = 0.05 + 0.127539 + 0.018035
    assert losses.hinge_max(EXAMPLE, margins).item() == pytest.approx(rows + 0.027539 + 0.218035, abs=2e-6)
    assert hinge_max_by_entry(EXAMPLE, margins[:, None]).item() == pytest.approx(rows + 0.15 + 0.227539, abs=2e-6)


@pytest.mark.parametrize("n_surest", [1, 2, 5])
def test_predictions_are_those_of_a_naive_loop(n_surest: int) -> None:
    scores = uniform(9, 9) + 0.3 * torch.eye(9)
    found = naive_agreement(scores, 0.3)
    assert 0 < min(found) < max(found) < 0.3
    reference = sum(sorted(found)[-n_surest:]) / n_surest
    expected = [min(1.0, value / reference) for value in found]
    assert predict(scores, 0.3, n_surest).tolist() == pytest.approx(expected)
    assert (predict(scores, 0.3, n_surest) == 1).sum() >= 1


def test_predictions_where_no_pair_agrees() -> None:
    assert predict(-10 * torch.eye(4), 0.2, 1).tolist() == [0] * 4


@pytest.mark.parametrize("released", [False, True])
def test_steps_are_those_of_a_naive_loop(released: bool, make_task: MakeTask) -> None:
    """One update on a clean and a noisy batch: the losses, and who is asked for predictions in which mode."""
    method = set_up_ncr(make_task(), noisy_after=0.0, labels="released" if released else "correct", surest=0.3)
    clean, noisy = (method.task.data.batch(np.arange(start, start + 16, 2)) for start in (0, 16))
    p_clean = uniform(8).numpy()

    def scores(learner: int, batch: Any) -> Tensor:
        with torch.no_grad():
            return method.networks[learner](*batch.inputs).double()

    def naive_predict(learner: int, batch: Any) -> NDArray[np.float64]:
        found = np.array(naive_agreement(scores(learner, batch), 0.2))
        return np.minimum(1, found / np.sort(found)[-3:].mean())

    def soft(label: float) -> float:
        return 0.2 * (10**label - 1) / 9

    P, P_noisy = naive_predict(1, clean), (naive_predict(0, noisy) + naive_predict(1, noisy)) / 2
    w = p_clean
    if released:
        expected = naive_hinge(scores(1, clean), *[lambda i, j: soft(w[i] + (1 - w[i]) * P[j])] * 2)
    else:
        y = w + (1 - w) * P
        expected = naive_hinge(scores(1, clean), lambda i, j: soft(y[i]), lambda i, j: soft(y[j]))
    stepped, accumulate = [], method.optimisers[1].step
    method.optimisers[1].step = lambda loss: (stepped.append(scores(1, noisy)), accumulate(loss))
    scalars = method._update(1, clean, p_clean, noisy)
    assert scalars["loss_clean"] == pytest.approx(expected, rel=1e-5)
    # The noisy step comes second: its loss is that of the weights after the first, its labels are from before.
    by_row, by_column = (lambda i, j: soft(P_noisy[i])), (lambda i, j: soft(P_noisy[j]))
    expected = naive_hinge(stepped[1], by_row, by_row if released else by_column)
    assert scalars["loss_noisy"] == pytest.approx(expected, rel=1e-5)
    assert scalars["loss"] == pytest.approx(scalars["loss_clean"] + scalars["loss_noisy"])


def test_published_defaults() -> None:
    config = NCR.Config()
    assert (config.batch_size, config.lr, config.margin, config.clip) == (128, 2e-4, 0.2, 2.0)
    assert (config.clean_above, config.noisy_after, config.labels) == (0.5, 0.5, "correct")
    assert int(config.surest * 128) + 1 == 13
    assert (config.warmup, config.decay_every) == (5 / 45, 30 / 45)
    coco, web = NCR.presets["coco"], NCR.presets["cc152k"]
    assert (coco["warmup"], coco["decay_every"]) == (1 / 3, 1 / 3)
    assert (web["warmup"], web["decay_every"]) == (0.2, 0.6)
