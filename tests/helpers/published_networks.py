"""SCAN and VSE-infinity as their papers' code names their weights, written plainly: one pair at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

WORD = 12


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


class Pooling(nn.Module):
    """The generalised pooling operator over one set of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(32, 32, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(32, 1, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        count = len(vectors)
        positions = torch.zeros(1, count, 32)
        for place in range(count):
            for pair in range(16):
                angle = place * math.exp(-math.log(10000.0) * 2 * pair / 32)
                positions[0, place, 2 * pair] = math.sin(angle)
                positions[0, place, 2 * pair + 1] = math.cos(angle)
        states = self.gru(positions)[0][0]
        weights = (self.linear((states[:, :32] + states[:, 32:]) / 2)[:, 0] / 0.1).softmax(0)
        return weights @ vectors.sort(0, descending=True).values


class Perceptron(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)])
        self.bns = nn.ModuleList([nn.BatchNorm1d(hidden), nn.BatchNorm1d(outputs)])  # the second is not used

    def forward(self, rows: Tensor) -> Tensor:
        return self.layers[1](self.bns[0](self.layers[0](rows)).relu())


class ImageEncoder(nn.Module):
    def __init__(self, inputs: int, embed: int, pooled: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(inputs, embed)
        if pooled:
            self.mlp = Perceptron(inputs, embed // 2, embed)
            self.gpool = Pooling()

    def forward(self, regions: Tensor) -> Tensor:
        if hasattr(self, "gpool"):
            return unit(self.gpool(self.fc(regions) + self.mlp(regions)))
        return unit(self.fc(regions))


class TextEncoder(nn.Module):
    def __init__(self, vocabulary: int, embed: int, pooled: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, WORD)
        self.rnn = nn.GRU(WORD, embed, batch_first=True, bidirectional=True)
        if pooled:
            self.gpool = Pooling()

    def forward(self, words: Tensor) -> Tensor:
        states = self.rnn(self.embed(words)[None])[0][0]
        means = (states[:, : states.shape[1] // 2] + states[:, states.shape[1] // 2 :]) / 2
        return unit(self.gpool(means) if hasattr(self, "gpool") else means)


class Published:
    """The two encoders and the similarity of a pair. `variant` is vse-infinity, or SCAN's t2i or i2t."""

    def __init__(self, variant: str, inputs: int, vocabulary: int, embed: int = 16) -> None:
        torch.manual_seed(3)
        self.variant, pooled = variant, variant == "vse-infinity"
        self.images, self.captions = ImageEncoder(inputs, embed, pooled), TextEncoder(vocabulary, embed, pooled)
        for module in self.images.modules():
            if isinstance(module, nn.BatchNorm1d):
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
        self.images.eval()

    def state(self) -> list[dict[str, Tensor]]:
        return [self.images.state_dict(), self.captions.state_dict()]

    @torch.no_grad()
    def similarity(self, regions: Tensor, words: Tensor, lse: float = 0.0) -> float:
        v, w = self.images(regions), self.captions(words)
        if self.variant == "vse-infinity":
            return float(v @ w)
        affinity = nn.functional.leaky_relu(w @ v.T, 0.1)  # (words, regions)
        if self.variant == "t2i":
            attention = (9 * affinity / affinity.norm(dim=0, keepdim=True)).softmax(1)
            queries, contexts = w, attention @ v
        else:
            attention = (4 * affinity / affinity.norm(dim=1, keepdim=True)).softmax(0)
            queries, contexts = v, attention.T @ w
        cosines = nn.functional.cosine_similarity(queries, contexts)
        return float((lse * cosines).logsumexp(0) / lse if lse else cosines.mean())
