"""SCAN and VSE-infinity in the files of their training code, against plain networks with the published names."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import refusal, similarities
from published_networks import Published

from ncbench.data.dataset import Dataset
from ncbench.records.networks import read_checkpoint

OPTIONS: dict[str, Any] = {"cross_attn": "t2i", "agg_func": "LogSumExp", "lambda_softmax": 9.0, "lambda_lse": 6.0}


def expected(network: Published, dataset: Dataset, lse: float = 0.0) -> np.ndarray:
    test = dataset.splits["test"]
    tokens, lengths = test.captions.padded(np.arange(len(test.captions)))
    images = torch.as_tensor(test.images.take(np.arange(len(test.images))))
    words = [torch.as_tensor(row[:length]) for row, length in zip(tokens, lengths, strict=True)]
    return np.array([[network.similarity(image, caption, lse) for caption in words] for image in images])


def made(variant: str, dataset: Dataset) -> Published:
    return Published(variant, dataset.image_dim, len(dataset.vocabulary))


@pytest.mark.parametrize("empty_part", [False, True])
def test_vse_infinity(empty_part: bool, tiny: Dataset, tmp_path: Path) -> None:
    network = made("vse-infinity", tiny)
    parts = [*network.state(), {}] if empty_part else network.state()
    content = {"epoch": 4, "model": parts, "opt": argparse.Namespace(), "move_gt": np.ones(3)}
    torch.save(content, tmp_path / "model.pth.tar")
    found = read_checkpoint(tmp_path / "model.pth.tar")
    assert (found.kinds, found.epoch) == (["vse-infinity"], 4)
    np.testing.assert_allclose(similarities(found.build(tiny), tiny), expected(network, tiny), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "kind", "lse"),
    [
        ({}, "scan-t2i-lse", 6.0),
        ({"lambda_lse": 4.5}, "scan-t2i-lse", 4.5),
        ({"agg_func": "Mean"}, "scan-t2i-mean", 0.0),
        ({"cross_attn": "i2t", "lambda_softmax": 4.0, "lambda_lse": 5.0}, "scan-i2t-lse", 5.0),
        ({"cross_attn": "i2t", "lambda_softmax": 4.0, "agg_func": "Mean"}, "scan-i2t-mean", 0.0),
    ],
)
def test_scan(options: dict[str, Any], kind: str, lse: float, tiny: Dataset, tmp_path: Path) -> None:
    options = {**OPTIONS, **options}
    network = made(options["cross_attn"], tiny)
    torch.save({"model": network.state(), "opt": argparse.Namespace(**options)}, tmp_path / "model.pth.tar")
    found = read_checkpoint(tmp_path / "model.pth.tar")
    assert found.kinds == [kind]
    np.testing.assert_allclose(similarities(found.build(tiny), tiny), expected(network, tiny, lse), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agg_func": "Max"}, "options cross_attn='t2i', agg_func='Max'; expected t2i or i2t, and LogSumExp or Mean"),
        ({"cross_attn": None}, "cross_attn=None"),
        ({"lambda_softmax": 4.0}, "lambda_softmax=4.0, expected 9.0; this variant is not supported"),
        ({"raw_feature_norm": "softmax"}, "raw_feature_norm='softmax', expected 'clipped_l2norm'"),
        ({"no_txtnorm": True}, "no_txtnorm=True, expected False"),
        ({"lambda_lse": -1.0}, "lambda_lse=-1.0, expected a positive number"),
    ],
)
def test_variants_of_scan_that_are_not_supported(
    options: dict[str, Any], message: str, tiny: Dataset, tmp_path: Path
) -> None:
    content = {"model": made("t2i", tiny).state(), "opt": argparse.Namespace(**{**OPTIONS, **options})}
    torch.save(content, tmp_path / "model.pth.tar")
    assert message in refusal(tmp_path / "model.pth.tar")


def test_scan_without_options(tiny: Dataset, tmp_path: Path) -> None:
    torch.save({"model": made("t2i", tiny).state()}, tmp_path / "model.pth.tar")
    assert "is a SCAN network with options cross_attn=None" in refusal(tmp_path / "model.pth.tar")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("txt_enc.bert.encoder.weight", "encodes captions with BERT, expected a GRU"),
        ("img_enc.cnn.conv1.weight", "encodes pixels, expected region features"),
    ],
)
def test_networks_of_other_kinds(name: str, message: str, tiny: Dataset, tmp_path: Path) -> None:
    images, captions = made("t2i", tiny).state()
    whole = {f"img_enc.{key}": w for key, w in images.items()} | {f"txt_enc.{key}": w for key, w in captions.items()}
    torch.save({"model": {**whole, name: torch.ones(2)}}, tmp_path / "model.pth.tar")
    assert message in refusal(tmp_path / "model.pth.tar")


def test_a_gru_of_one_direction(tiny: Dataset, tmp_path: Path) -> None:
    images, captions = made("t2i", tiny).state()
    forward = {name: weight for name, weight in captions.items() if "reverse" not in name}
    torch.save({"model": [images, forward]}, tmp_path / "model.pth.tar")
    assert "its GRU reads words in one direction, as that of VSE++" in refusal(tmp_path / "model.pth.tar")
