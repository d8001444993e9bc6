"""Captions that are vectors of another model: which backbones take them, their cost, and that both sides learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from reports import Reported
from runs import prepare_run
from torch.utils.flop_counter import FlopCounterMode
from toy_methods import Toy

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import BACKBONES, backbone_class, build_backbone, check_captions
from ncbench.backbones.vse import VSE
from ncbench.data.dataset import CaptionVectors, Dataset
from ncbench.errors import UserError
from ncbench.method.registry import load_method

ABLE = ["vse", "vse-infinity", "vse-mlp"]
IMAGE_DIM, VECTOR_DIM, EMBED = 12, 7, 16


def make(name: str, head: int = 0) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(name, Sizes(IMAGE_DIM, 3, 4, embed=EMBED, word=10, head=head, vector_dim=VECTOR_DIM))


@pytest.fixture
def told(tiny: Dataset) -> Dataset:
    """The tiny dataset with captions as vectors of word counts."""
    splits = {}
    for name, split in tiny.splits.items():
        tokens, lengths = split.captions.padded(np.arange(len(split.captions)))
        inside = np.arange(tokens.shape[1]) < lengths[:, None]
        counts = [np.bincount(row[there], minlength=10)[4:] for row, there in zip(tokens, inside, strict=True)]
        captions = CaptionVectors(split.captions.texts, np.array(counts, np.float32))
        splits[name] = dataclasses.replace(split, captions=captions)
    return dataclasses.replace(tiny, splits=splits, digest="e" * 64)


def test_these_take_vectors() -> None:
    assert sorted(name for name in BACKBONES if backbone_class(name).TAKES_VECTORS) == ABLE


@pytest.mark.parametrize("name", sorted(set(BACKBONES) - set(ABLE)))
def test_others_need_words(name: str, told: Dataset, tiny: Dataset) -> None:
    check_captions(name, tiny)
    with pytest.raises(UserError, match=f"^{name} reads words, but the captions of tiny are vectors"):
        check_captions(name, told)
    if name != "sgraf":
        with pytest.raises(ValueError, match="reads words, but the captions are vectors"):
            make(name)


@pytest.mark.parametrize("name", ABLE)
@pytest.mark.parametrize("head", [0, 6])
def test_formulas_count_every_matrix_product(name: str, head: int) -> None:
    net = make(name, head)
    images, vectors, lengths = torch.randn(5, 3, IMAGE_DIM), torch.randn(4, VECTOR_DIM), torch.ones(4, dtype=torch.long)
    net.on_work = reported = Reported()
    with FlopCounterMode(display=False) as counter:
        captions = net.encode_captions(vectors, lengths)
        assert counter.get_total_flops() == 4 * net.caption_work(1)
        encoded = net.encode_images(images)
        before = counter.get_total_flops()
        net.score(encoded, captions)
        assert counter.get_total_flops() - before == 20 * net.pair_work(3, 1)
    assert reported[0] == 3 * 4 * net.caption_work(1)
    assert (reported.samples, reported.pairs) == (4, 20)


@pytest.mark.parametrize("name", ABLE)
def test_backward_costs_twice_the_forward_pass(name: str) -> None:
    """Three times the formula, except for the gradient of the vectors, which is not computed."""
    net = make(name)
    with FlopCounterMode(display=False) as counter:
        net.encode_captions(torch.randn(4, VECTOR_DIM), torch.ones(4, dtype=torch.long)).parts[0].sum().backward()
    width = {"vse": EMBED, "vse-infinity": EMBED + EMBED // 2, "vse-mlp": EMBED}[name]
    assert counter.get_total_flops() == 3 * 4 * net.caption_work(1) - 4 * 2 * VECTOR_DIM * width


def test_vse_is_the_cosine_of_two_linear_maps() -> None:
    net = make("vse")
    assert isinstance(net, VSE)
    images, vectors = torch.randn(5, 3, IMAGE_DIM), torch.randn(4, VECTOR_DIM)
    assert isinstance(net.project, torch.nn.Linear)
    assert isinstance(net.project_captions, torch.nn.Linear)
    seen = images.mean(1) @ net.project.weight.T + net.project.bias
    said = vectors @ net.project_captions.weight.T + net.project_captions.bias
    cosines = torch.nn.functional.cosine_similarity(seen[:, None], said[None], dim=-1)
    torch.testing.assert_close(net(images, vectors, torch.ones(4, dtype=torch.long)), cosines)
    assert not any("gru" in name or "embedding" in name for name, _ in net.named_parameters())


def test_vse_mlp_is_the_cosine_of_two_maps_of_two_layers() -> None:
    net = make("vse-mlp")
    weights = dict(net.named_parameters())
    images, vectors = torch.randn(5, 3, IMAGE_DIM), torch.randn(4, VECTOR_DIM)

    def mapped(inputs: torch.Tensor, name: str) -> torch.Tensor:
        hidden = (inputs @ weights[f"{name}.0.weight"].T + weights[f"{name}.0.bias"]).clamp(min=0)
        return hidden @ weights[f"{name}.2.weight"].T + weights[f"{name}.2.bias"]

    seen, said = mapped(images.mean(1), "project"), mapped(vectors, "project_captions")
    cosines = torch.nn.functional.cosine_similarity(seen[:, None], said[None], dim=-1)
    torch.testing.assert_close(net(images, vectors, torch.ones(4, dtype=torch.long)), cosines)
    assert weights["project.0.weight"].shape == (EMBED, IMAGE_DIM)


@pytest.mark.parametrize("name", ABLE)
def test_both_sides_are_trained(name: str, told: Dataset, tmp_path: Path) -> None:
    run = prepare_run(told, tmp_path, load_method("triplet"), name, ratio=0.0, budget=8.0, evaluations=4)
    result = run.execute()
    assert result.metrics.test.rsum > 380, "chance is about 250"
    (backbone,) = run.trainers[0].backbones
    weights = {"project_captions.weight", "caption_maps.project.weight", "project_captions.0.weight"}
    assert weights & set(backbone.state_dict())


@pytest.mark.parametrize("method", ["l2rm", "ncr", "gsc", "rcl", "decl", "bicro", "crcl", "mscn", "coteaching"])
def test_methods_need_no_words(method: str, told: Dataset, tmp_path: Path) -> None:
    more: dict[str, dict[str, object]] = {
        "l2rm": {"queue": 12},
        "mscn": {"warmup_batch": 8, "meta_batch": 8, "hidden": 8, "meta": 0.2, "warmup": 0.3},
    }
    settings: dict[str, object] = {"batch_size": 8} | more.get(method, {})
    run = prepare_run(
        told,
        tmp_path,
        load_method(method),
        "vse",
        budget=4.0 if method == "mscn" else 0.7,
        evaluations=1,
        settings=settings,
    )
    assert run.execute().status == "done"


def test_a_method_that_changes_words_is_refused(
    told: Dataset, make_dataset: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ncbench.sweeps import grid as module

    class ChangesWords(Toy):
        name = "changes_words"
        needs_words = True

    known = module.load_method
    monkeypatch.setattr(module, "load_method", lambda name: ChangesWords if name == "changes_words" else known(name))
    monkeypatch.setattr(module, "load_dataset", lambda name, root: told)
    grid = module.Grid(["tiny"], ["shuffle-images"], [0.4], ["changes_words"], ["vse"], [], [0])
    with pytest.raises(UserError, match=r"changes_words' changes the words of captions"):
        module.plan_sweep(grid)
    with pytest.raises(UserError, match=r"^sgr reads words"):
        module.plan_sweep(dataclasses.replace(grid, methods=["triplet"], backbones=["sgr"]))
    (planned,) = module.plan_sweep(dataclasses.replace(grid, methods=["triplet"]))
    assert planned.spec.dataset_digest == told.digest


def test_there_is_one_vector_per_text() -> None:
    with pytest.raises(ValueError, match="2 texts but 3 vectors"):
        CaptionVectors(["a", "b"], np.zeros((3, 4), np.float32))
