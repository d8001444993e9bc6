"""CLIP of `transformers` as a backbone: its two towers stay as they are, and a linear head on each of them is trained.

    pip install 'ncbench[vision]'
    ncbench backbones check examples/clip_backbone.py
    ncbench run --method triplet,l2rm --backbone examples/clip_backbone.py --noise 0.4

As it stands, the towers are small and random, and read any dataset: the regions of an image take the place of patches,
and every word has an embedding. Set `WEIGHTS` to the name of a CLIP, or to its folder, to load trained towers. Then:

* Images are pixels: a dataset whose R "regions" are the patches of a picture, row by row, each with its 3 * P * P
  numbers, normalised as for this CLIP. `patches_of` makes them from pictures.
* Captions are words or tokens. Each word has the embedding of its token, or the mean of its tokens; a vocabulary made
  with the `tokenizer` of this CLIP (see the page on data) keeps all tokens as they are. Captions that are longer than
  CLIP can read are cut.

CLIP: Radford et al., ICML 2021. No FLOPs are stated here, so they are measured; the towers have no backward pass.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from ncbench import UserError
from ncbench.backbones import Encoded, Sizes, VectorBackbone

try:
    from transformers import AutoTokenizer, CLIPConfig, CLIPModel
except ImportError as error:
    raise UserError("clip_backbone.py needs transformers; run: pip install 'ncbench[vision]'") from error

WEIGHTS: str | None = None
"""Name or folder of trained weights, such as "openai/clip-vit-base-patch32"."""

WIDTH, LAYERS, LONGEST = 64, 2, 77
"""Of the random towers: width, layers, and tokens of the longest caption."""


class Clip(VectorBackbone):
    """CLIP with frozen towers and a trained linear head on each; one vector per image and per caption."""

    name = "clip"

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.clip = pretrained(sizes, WEIGHTS) if WEIGHTS else untrained(sizes)
        self.clip.requires_grad_(False)
        width = self.clip.config.projection_dim
        self.image_head = nn.Linear(width, sizes.embed)
        self.caption_head = nn.Linear(width, sizes.embed)

    def _encode_images(self, images: Tensor) -> Encoded:
        vision = self.clip.config.vision_config
        pixels = pixels_of(images, vision.image_size, vision.patch_size)
        pooled = self.clip.vision_model(pixel_values=pixels).pooler_output
        return Encoded((normalize(self.image_head(self.clip.visual_projection(pooled)), dim=-1),))

    def _encode_captions(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        longest = self.clip.config.text_config.max_position_embeddings
        ends = lengths.clamp(max=longest).to(tokens.device) - 1
        ids = tokens[:, :longest].clone()
        # CLIP reads a caption at its end token, which must have the highest id.
        ids[torch.arange(len(ids), device=ids.device), ends] = self.sizes.vocabulary
        pooled = self.clip.text_model(input_ids=ids).pooler_output  # causal, so that padding is never seen
        return Encoded((normalize(self.caption_head(self.clip.text_projection(pooled)), dim=-1),))


def untrained(sizes: Sizes) -> CLIPModel:
    """Return a small CLIP with random weights, in which every region is a patch of one pixel."""
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
    }
    text = {**tower, "max_position_embeddings": LONGEST, **_vocabulary(sizes)}
    side = math.ceil(math.sqrt(sizes.n_regions))
    vision = {**tower, "num_channels": sizes.image_dim, "image_size": side, "patch_size": 1}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))


def pretrained(sizes: Sizes, name: str) -> CLIPModel:
    """Return the CLIP called `name`, with an embedding for each word. Raises UserError for images of another size."""
    config = CLIPConfig.from_pretrained(name)
    vision = config.vision_config
    patches, numbers = (vision.image_size // vision.patch_size) ** 2, vision.num_channels * vision.patch_size**2
    if (sizes.n_regions, sizes.image_dim) != (patches, numbers):
        raise UserError(
            f"{name} reads images of {patches} patches of {numbers} numbers, the dataset has {sizes.n_regions} of "
            f"{sizes.image_dim}; make them with patches_of"
        )
    if torch.get_default_device().type == "meta":  # only the shapes are asked for
        config.text_config.update(_vocabulary(sizes))
        return CLIPModel(config)
    clip = CLIPModel.from_pretrained(name)
    text = clip.text_model
    embeddings = word_embeddings(sizes, name, text.embeddings.token_embedding.weight)
    text.embeddings.token_embedding = nn.Embedding.from_pretrained(embeddings)
    text.eos_token_id = sizes.vocabulary
    return clip


def _vocabulary(sizes: Sizes) -> dict[str, int]:
    return {"vocab_size": sizes.vocabulary + 1, "bos_token_id": 1, "eos_token_id": sizes.vocabulary, "pad_token_id": 0}


def word_embeddings(sizes: Sizes, name: str, tokens: Tensor) -> Tensor:
    """Return the embeddings (V + 1, H) of the V words of a dataset, and of the end, from those of `tokens`."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    known, end = tokenizer.get_vocab(), tokenizer.eos_token_id
    special = {"<start>": tokenizer.bos_token_id, "<pad>": end, "<end>": end, "<unk>": tokenizer.unk_token_id}

    def ids_of(word: str) -> list[int]:
        if word in special:
            return [special[word]]
        found = known.get(word, known.get(f"{word}</w>"))
        return tokenizer.encode(word, add_special_tokens=False) if found is None else [found]

    rows = [tokens[ids_of(word)].mean(0) for word in sizes.words]
    return torch.stack([*rows, tokens[end]]).detach()


def pixels_of(images: Tensor, side: int, patch: int) -> Tensor:
    """Return pixels (I, channels, side, side) of images (I, R, D) whose regions are patches, row by row.

    D is channels * patch * patch. Patches that are missing at the end are zero.
    """
    count, n_regions, _ = images.shape
    grid = side // patch
    whole = pad(images, (0, 0, 0, grid * grid - n_regions))
    squares = whole.view(count, grid, grid, -1, patch, patch)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(count, -1, side, side)


def patches_of(pixels: Tensor, patch: int) -> Tensor:
    """Return the patches (I, R, D) of pixels (I, channels, side, side), as datasets hold the regions of images."""
    count, channels, side, _ = pixels.shape
    grid = side // patch
    squares = pixels.view(count, channels, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5)
    return squares.reshape(count, grid * grid, channels * patch * patch)
