"""The source of a small backbone as a plugin, and of copies of it that break one rule each."""

from __future__ import annotations

from pathlib import Path

TEXT = '''"""A backbone of one's own."""

import torch
from torch import nn
from torch.nn.functional import normalize

from ncbench.backbones import Backbone, Encoded, VectorBackbone

CALLS = []


class Means(VectorBackbone):
    """Means of regions and of words, through linear maps."""

    name = "means"

    def __init__(self, sizes):
        super().__init__(sizes)
        self.region = nn.Linear(sizes.image_dim, sizes.embed)
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.word, padding_idx=0)
        self.caption = nn.Linear(sizes.word, sizes.embed)
        # more layers

    def _encode_images(self, images):
        vectors = self.region(images).mean(1)
        return Encoded((normalize(vectors, dim=-1),))

    def _encode_captions(self, tokens, lengths):
        words = self.embedding(tokens).sum(1) / lengths[:, None].to(tokens.device)
        return Encoded((normalize(self.caption(words), dim=-1),))

    # more functions
'''
LAYERS, FUNCTIONS = "        # more layers\n", "    # more functions\n"


def write_backbone(path: Path, *changes: tuple[str, str]) -> str:
    """Write the backbone `means` with these replacements in its source; return the path as text."""
    text = TEXT
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)
