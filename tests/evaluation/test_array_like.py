"""Scores of arrays, tensors and lists: the same numbers, and errors that name the argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ncbench import ArgumentError, UserError, detect, evaluate
from ncbench.evaluation import reliability
from ncbench.runtime.array_like import as_floats

SCORES = np.random.default_rng(0).integers(0, 64, (6, 12)) / 64  # exact in every type
TRUE = np.repeat(np.arange(6), 2)
P_CLEAN = np.array([0.875, 0.5, 0.25, 0.0, 1.0])
CLEAN = np.array([True, True, False, False, True])

FORMS: dict[str, Callable[[Any], Any]] = {
    "list": lambda values: values.tolist(),
    "tuple": lambda values: tuple(values.tolist()),
    "rows of tensors": lambda values: [torch.from_numpy(row) for row in values.reshape(len(values), -1)],
    "float16": lambda values: values.astype(np.float16),
    "longdouble": lambda values: values.astype(np.longdouble),
    **{
        str(dtype): lambda values, dtype=dtype: torch.from_numpy(values).to(dtype)
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    },
    "with a gradient": lambda values: torch.from_numpy(values).requires_grad_(),
    "frame": pd.DataFrame,
}


@pytest.mark.parametrize("form", FORMS)
def test_evaluate_takes_every_form(form: str) -> None:
    assert evaluate(FORMS[form](SCORES), TRUE) == evaluate(SCORES, TRUE)


@pytest.mark.parametrize("form", ["list", "float16", "torch.bfloat16", "torch.float32", "with a gradient"])
def test_detect_takes_every_form(form: str) -> None:
    assert detect(FORMS[form](P_CLEAN), CLEAN) == detect(P_CLEAN, CLEAN)
    assert (
        reliability(FORMS[form](P_CLEAN), CLEAN).mean_p_clean.tolist()
        == reliability(P_CLEAN, CLEAN).mean_p_clean.tolist()
    )


@pytest.mark.parametrize(
    "true", [TRUE.tolist(), torch.from_numpy(TRUE), TRUE.astype(np.uint8), torch.tensor(TRUE).int()]
)
def test_numbers_of_images_take_every_form(true: Any) -> None:
    assert evaluate(SCORES, true) == evaluate(SCORES, TRUE)


@pytest.mark.parametrize("clean", [CLEAN.tolist(), torch.from_numpy(CLEAN), pd.Series(CLEAN)])
def test_truth_takes_every_form(clean: Any) -> None:
    assert detect(P_CLEAN, clean) == detect(P_CLEAN, CLEAN)


def test_ties_stay_ties_in_bfloat16() -> None:
    scores = torch.tensor([[0.1, 0.1001], [0.2, 0.3]], dtype=torch.bfloat16)
    assert scores[0, 0] == scores[0, 1]
    assert evaluate(scores, [0, 0]).t2i.meanr == evaluate(scores.double(), [0, 0]).t2i.meanr


def test_arrays_and_tensors_are_not_copied() -> None:
    assert as_floats("x", SCORES) is SCORES
    tensor = torch.rand(4)
    assert np.shares_memory(as_floats("x", tensor), tensor.numpy())


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (evaluate, (SCORES + 1j, TRUE), "similarities: expected numbers, found an array of complex128"),
        (evaluate, ([[1.0], [1.0, 2.0]], TRUE), "similarities: expected numbers, found list"),
        (evaluate, (None, TRUE), "similarities: expected numbers, found a single object"),
        (evaluate, (SCORES, TRUE + 0.5), "true: expected integers, found an array of float64"),
        (evaluate, (SCORES, "abc"), "true: expected integers, found a single <U3"),
        (detect, (P_CLEAN > 0.5, CLEAN), "p_clean: expected numbers, found an array of bool"),
        (detect, (P_CLEAN, CLEAN.astype(int)), "clean: expected booleans, found an array of int64; convert 0 and 1"),
    ],
)
def test_errors_name_the_argument(function: Callable[..., Any], arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        function(*arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UserError)
    assert isinstance(caught.value, ValueError)
