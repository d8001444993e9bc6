"""`ncbench.find_mismatched` on arrays, tensors, strings and tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from planted import planted_vectors

import ncbench
from ncbench import UserError

CHEAP = ("cosine", "linear", "neighbours")


def test_finds_what_was_planted() -> None:
    found = planted_vectors(600)
    table = ncbench.find_mismatched(found.images, found.texts, scorers=CHEAP, rule="threshold", drop_from=0.5)
    dropped = (table["verdict"] == "dropped").to_numpy()
    assert (dropped == found.wrong).mean() > 0.97
    assert table.attrs["ratio_low"] <= 0.3 <= table.attrs["ratio_high"]
    assert list(table.columns) == ["p_mismatched", "verdict", "partner", *CHEAP]


def test_partners_are_pairs_with_the_right_image() -> None:
    found = planted_vectors(300, noise=0.2)
    table = ncbench.find_mismatched(found.images, found.texts, index=[f"p{n}" for n in range(300)], scorers="cosine")
    moved = np.flatnonzero(found.wrong)
    proposed = table["partner"].dropna()
    assert len(proposed) > 0.7 * len(moved)
    right = sum(np.argmax(found.images @ found.texts[int(pair[1:])]) == int(to[1:]) for pair, to in proposed.items())
    assert right > 0.9 * len(proposed)


@pytest.mark.parametrize("form", ["arrays", "tensors", "halves", "frames"])
def test_forms_give_the_same(form: str) -> None:
    found = planted_vectors(120)
    images: Any = found.images.astype(np.float16)
    texts: Any = found.texts.astype(np.float16)
    make = {
        "arrays": lambda x: x.astype(np.float64),
        "tensors": lambda x: torch.tensor(x.astype(np.float32), requires_grad=True),
        "halves": lambda x: x,
        "frames": lambda x: pd.DataFrame(x.astype(np.float32), index=range(1000, 1120)),
    }[form]
    expected = ncbench.find_mismatched(images.astype(np.float32), texts.astype(np.float32), scorers=CHEAP)
    table = ncbench.find_mismatched(make(images), make(texts), scorers=CHEAP)
    np.testing.assert_allclose(table["p_mismatched"], expected["p_mismatched"], atol=0.02)
    assert list(table.index) == list(range(1000, 1120) if form == "frames" else range(120))


def test_strings_and_regions() -> None:
    rng = np.random.default_rng(0)
    words = np.array(["red", "green", "blue", "round", "flat", "tall"])
    kinds = rng.integers(6, size=(200, 2))
    images = np.eye(6, dtype=np.float32)[kinds] + 0.1 * rng.normal(size=(200, 2, 6)).astype(np.float32)
    wrong = np.arange(200) < 40
    said = np.concatenate([np.roll(kinds[:40], 7, axis=0), kinds[40:]])
    texts = [" ".join(words[each]) for each in said]
    table = ncbench.find_mismatched(images, texts, scorers="linear")
    different = np.array([set(a) != set(b) for a, b in zip(kinds, said, strict=True)]) & wrong
    assert table["p_mismatched"][different].mean() > table["p_mismatched"][~different].mean() + 0.3


def test_a_share_is_dropped_exactly() -> None:
    found = planted_vectors(120)
    table = ncbench.find_mismatched(found.images, found.texts, scorers="cosine", rule="share", share=0.25)
    assert (table["verdict"] == "dropped").sum() == 30
    assert (table["verdict"] == "review").sum() == 0


def test_a_method_of_the_suite() -> None:
    found = planted_vectors(80, share=0.2, noise=0.1)
    table = ncbench.find_mismatched(found.images, found.texts, scorers=["cosine", "infonce"], epochs=4, device="cpu")
    assert table["infonce"].notna().all()
    assert table["infonce"][~found.wrong].mean() > table["infonce"][found.wrong].mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((50, 3, 4, 5))}, r"images have shape \(50, 3, 4, 5\)"),
        ({"texts": np.zeros((49, 4))}, "found 50 images, 49 texts and 50 labels"),
        ({"index": [1, 2]}, "found 50 images, 50 texts and 2 labels"),
        ({"images": np.full((50, 4), np.nan)}, "images: row 0 contains NaN or infinity"),
        ({"images": np.array(["a"] * 50)}, "images: found an array of <U1, expected numbers"),
        ({"texts": "a dog"}, "texts is one string"),
        ({"texts": ["one"] * 50}, "too few words occur in two captions"),
        ({"scorers": "cosine", "texts": np.ones((50, 5))}, "cosine needs vectors of one space, but images have 4"),
        ({"scorers": "oracle"}, "oracle must know which pairs are clean"),
        ({"scorers": "mscn"}, "mscn needs .* pairs that are known to be clean"),
        ({"scorers": "nothing"}, "unknown scorer 'nothing'"),
        ({"scorers": []}, "no scorers"),
        ({"rule": "luck"}, "rule 'luck' is unknown"),
        ({"scorers": "cosin"}, "unknown scorer 'cosin'. Did you mean 'cosine'"),
        ({"share": 1.0}, "the share to drop is 1"),
        ({"share": 0.1}, "--share has no effect on pairs dropped by ratio; expected --drop share"),
        ({"rule": "share", "drop_from": 0.9}, "--drop-from has no effect on pairs dropped by share"),
        ({"rule": "share"}, "expected --share S"),
        ({"drop_from": 0.1}, "P\\(mismatched\\) for review is 0.2 and to drop 0.1"),
        ({"folds": 1}, "--folds is 1"),
    ],
)
def test_messages(change: dict[str, Any], message: str) -> None:
    found = planted_vectors(50, dim=4)
    given = {"images": found.images, "texts": found.texts, "scorers": "linear", **change}
    with pytest.raises(UserError, match=message):
        ncbench.find_mismatched(given.pop("images"), given.pop("texts"), **given)


def test_random_pairs_are_not_sorted() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match=r"the pairs look no different from random pairs .*check that rows"):
        ncbench.find_mismatched(rng.normal(size=(400, 8)), rng.normal(size=(400, 8)), scorers="cosine")
