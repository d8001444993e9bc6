"""The example of a backbone: CLIP with heads, on tiny random weights; nothing is downloaded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from places import ROOT
from sources import Source
from torch import Tensor

import ncbench
from ncbench import UserError
from ncbench.backbones import Sizes, registry
from ncbench.backbones.registry import load_backbone
from ncbench.cli import main
from ncbench.data.dataset import Dataset

transformers = pytest.importorskip("transformers")
PATH = str(ROOT / "examples" / "clip_backbone.py")
SIDE, PATCH, WORDS = 8, 4, ("<pad>", "<start>", "<end>", "<unk>", "a", "cat</w>", "dog", "cats")
SIZES = Sizes(3 * PATCH**2, (SIDE // PATCH) ** 2, len(WORDS), embed=12, word=8, dropout=0.0, words=WORDS)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Return the module of the example; its constants are restored."""
    monkeypatch.setattr(registry, "_loaded", {})
    module = sys.modules[load_backbone(PATH).__module__]
    kept = module.WEIGHTS  # type: ignore[attr-defined]
    yield module
    module.WEIGHTS = kept  # type: ignore[attr-defined]


class Tokenizer:
    """As much of a tokenizer as the example uses; the ends of words are marked."""

    bos_token_id, eos_token_id, unk_token_id = 7, 8, 8

    def get_vocab(self) -> dict[str, int]:
        return {"a</w>": 0, "cat</w>": 1, "dog</w>": 2, "cat": 3, "s</w>": 4}

    def encode(self, word: str, add_special_tokens: bool) -> list[int]:
        assert (word, add_special_tokens) == ("cats", False)
        return [3, 4]


@pytest.fixture
def trained(example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a tiny CLIP with a tokenizer of nine tokens, let the example load it, and return it."""
    tower = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**tower, "vocab_size": 9, "max_position_embeddings": 6, "bos_token_id": 7, "eos_token_id": 8}
    vision = {**tower, "image_size": SIDE, "patch_size": PATCH}
    torch.manual_seed(0)
    clip = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=10))
    clip.save_pretrained(tmp_path / "clip")
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda _: Tokenizer())
    example.WEIGHTS = str(tmp_path / "clip")  # type: ignore[attr-defined]
    return clip.eval()


def heads_out(net: Any, images: Tensor, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return what comes out of the towers, before the heads."""
    for head in (net.image_head, net.caption_head):
        head.weight.data = torch.eye(*head.weight.shape)
        head.bias.data.zero_()
    with torch.no_grad():
        return net.encode_images(images).parts[0], net.encode_captions(tokens, lengths).parts[0]


def test_it_conforms(example: ModuleType) -> None:
    result = CliRunner().invoke(main, ["backbones", "check", PATH])
    assert result.exit_code == 0, result.output
    assert "2,080 weights to train, 149,505 frozen" in " ".join(result.output.split())


def test_l2rm_trains_its_heads(
    example: ModuleType, tiny: Dataset, register: Callable[..., None], tmp_path: Path
) -> None:
    register("ncbench.datasets", "tiny", Source(tiny))
    words = "run --method l2rm --dataset tiny --noise 0.2 --budget 4 --set l2rm.batch_size=8 --device cpu --jobs 1"
    result = CliRunner().invoke(main, [*words.split(), "--backbone", PATH, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    (run,) = ncbench.load_runs(tmp_path).to_dict(orient="records")
    assert (run["backbone"], run["problems"]) == ("clip", "")
    assert CliRunner().invoke(main, ["verify", str(tmp_path)]).exit_code == 0


def test_towers_are_those_of_the_model(example: Any, trained: Any) -> None:
    net = example.Clip(SIZES).eval()
    pixels = torch.randn(5, 3, SIDE, SIDE)
    tokens = torch.tensor([[1, 4, 5, 2, 0], [1, 6, 4, 5, 2]])
    images, captions = heads_out(net, example.patches_of(pixels, PATCH), tokens, torch.tensor([4, 5]))
    with torch.no_grad():
        ids = torch.tensor([[7, 0, 1, 8, 8], [7, 2, 0, 1, 8]])
        same = trained(input_ids=ids, pixel_values=pixels)
    torch.testing.assert_close(images[:, :10], same.image_embeds)
    torch.testing.assert_close(captions[:, :10], same.text_embeds)


def test_words_of_several_tokens_and_long_captions(example: Any, trained: Any) -> None:
    net = example.Clip(SIZES).eval()
    table, tokens = net.clip.text_model.embeddings.token_embedding.weight, trained.text_model.embeddings.token_embedding
    torch.testing.assert_close(table[7], tokens.weight[[3, 4]].mean(0))  # cats
    torch.testing.assert_close(table[[0, 2, 8]], tokens.weight[[8, 8, 8]])
    longer = torch.tensor([[1, 4, 5, 4, 6, 5, 4, 2]])
    cut = torch.tensor([[1, 4, 5, 4, 6, 2]])
    with torch.no_grad():
        found = [net.encode_captions(ids, torch.tensor([ids.shape[1]])).parts[0] for ids in (longer, cut)]
    torch.testing.assert_close(*found)


def test_costs_are_counted_without_weights(example: Any, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("weights were loaded")

    net = example.Clip(SIZES)
    monkeypatch.setattr(transformers.CLIPModel, "from_pretrained", refuse)
    images, captions = net.image_work(4), net.caption_work(5)
    assert net.image_work(4) - net.frozen_image_work(4) == 2 * 10 * 12  # the head
    assert captions - net.frozen_caption_work(5) == 2 * 10 * 12
    rows = 5  # patches and the class
    tower = 2 * (2 * rows * (4 * 16 * 16 + 2 * 16 * 24) + 4 * rows * rows * 16) + 2 * 4 * 48 * 16
    assert images == tower + 2 * 16 * 10 + 2 * 10 * 12


def test_images_of_another_size(example: Any, trained: Any) -> None:
    with pytest.raises(UserError, match=r"reads images of 4 patches of 48 numbers, the dataset has 3 of 48; make them"):
        example.Clip(Sizes(48, 3, 8, words=WORDS))


def test_patches_there_and_back(example: Any) -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 12, 12)))
    patches = example.patches_of(pixels, 4)
    assert patches.shape == (2, 9, 48)
    torch.testing.assert_close(patches[1, 4], pixels[1, :, 4:8, 4:8].flatten())
    torch.testing.assert_close(example.pixels_of(patches, 12, 4), pixels)
    assert (example.pixels_of(patches[:, :7], 12, 4)[:, :, 8:, 4:] == 0).all()
