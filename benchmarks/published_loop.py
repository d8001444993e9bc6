"""The similarity of SGR and SAF as published: a loop over captions, each cut to its length (Diao et al., AAAI 2021).

Written from the formulas; only the weights come from `ncbench`. `speed.py` measures the batched implementation against
it, and tests compare their results.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def l2(x: Tensor, dim: int = -1) -> Tensor:
    """Return x / (|x|_2 + 1e-8)."""
    return x / (x.square().sum(dim, keepdim=True).sqrt() + 1e-8)


class PublishedLoop:
    """The network `net`, `sgr` or `saf`, one caption at a time. SAF's gate has its own batch norm."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.gate_norm: nn.BatchNorm1d | None = None
        if hasattr(net, "gate_norm"):
            ours = net.gate_norm
            self.gate_norm = nn.BatchNorm1d(1).to(ours.weight)
            self.gate_norm.weight, self.gate_norm.bias = ours.weight, ours.bias
            self.gate_norm.running_mean.copy_(ours.running_mean)
            self.gate_norm.running_var.copy_(ours.running_var)
            self.gate_norm.train(net.training)

    def __call__(self, images: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the similarities (I, C) of images (I, R, D) and captions (C, L) of `lengths` (C,)."""
        return self.score(self.regions(images), self.words(tokens, lengths), lengths)

    def regions(self, images: Tensor) -> Tensor:
        """Return unit vectors (I, R, E)."""
        return l2(self.net.image_encoder.project(images))

    def words(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return unit vectors (C, L, E), zero in the padding."""
        encoder = self.net.caption_encoder
        words = encoder.dropout(encoder.embedding(tokens))
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(encoder.gru(packed)[0], batch_first=True)
        half = states.shape[2] // 2
        return l2((states[..., :half] + states[..., half:]) / 2)

    def score(self, regions: Tensor, words: Tensor, lengths: Tensor) -> Tensor:
        """Return the similarities (I, C) of encoded regions and words."""
        image_summary = self.image_summary(regions)
        columns = [
            self.column(regions, image_summary, words[caption, :length])
            for caption, length in enumerate(lengths.tolist())
        ]
        return torch.cat(columns, 1)

    def image_summary(self, regions: Tensor) -> Tensor:
        """Return the global image vectors (I, E)."""
        part = self.net.image_summary
        local = part.dropout(part.local_norm(part.local_map(regions)).tanh())
        overall = part.dropout(part.global_norm(part.global_map(regions.mean(1))).tanh())
        weights = part.weigh(local * overall[:, None, :]).softmax(1)
        return l2((weights * regions).sum(1))

    def caption_summary(self, words: Tensor) -> Tensor:
        """Return the global vector (1, E) of the words (1, L, E) of one caption."""
        part = self.net.caption_summary
        local = part.dropout(part.local_map(words).tanh())
        overall = part.dropout(part.global_map(words.mean(1)).tanh())
        weights = part.weigh(local * overall[:, None, :]).softmax(1)
        return l2((weights * words).sum(1))

    def column(self, regions: Tensor, image_summary: Tensor, caption: Tensor) -> Tensor:
        """Return the similarities (I, 1) of all images and one caption (L, E)."""
        words = caption[None].expand(len(regions), -1, -1)
        affinity = l2(functional.leaky_relu(regions @ words.transpose(1, 2), 0.1))  # (I, R, L), over words
        context = l2((9 * affinity.transpose(1, 2)).softmax(2) @ regions)  # (I, L, E)
        local = l2(self.net.local_alignment((context - words).square()))
        overall = l2(self.net.global_alignment((image_summary - self.caption_summary(caption[None])).square()))
        nodes = torch.cat([overall[:, None], local], 1)
        vector = self.reason(nodes) if self.gate_norm is None else self.filter(nodes)
        similarity: Tensor = self.net.head(vector).sigmoid()
        return similarity

    def reason(self, nodes: Tensor) -> Tensor:
        """Return the global node (I, S) after SGR's three steps over `nodes` (I, N, S)."""
        for step in self.net.steps:
            edges = (step.query(nodes) @ step.key(nodes).transpose(1, 2)).softmax(-1)
            nodes = step.update(edges @ nodes).relu()
        return nodes[:, 0]

    def filter(self, nodes: Tensor) -> Tensor:
        """Return SAF's gated average (I, S) of `nodes` (I, N, S)."""
        gate = self.gate_norm(self.net.gate(nodes).transpose(1, 2)).sigmoid()
        gate = gate / (gate.abs().sum(-1, keepdim=True) + 1e-8)
        return l2((gate @ nodes)[:, 0])
