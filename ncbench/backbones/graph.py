"""SGR and SAF: scores from alignment vectors of words and regions (SGRAF: Diao et al., AAAI 2021).

All captions are scored at once. The values are those of the published per-caption loop, by fewer products:
`Q K^T` needs one map of the nodes, since terms that are constant along the softmax axis drop out, and the last
reasoning step computes the one node that is read.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ncbench.backbones.attention import attend_regions
from ncbench.backbones.base import FLOAT_BYTES, Backbone, Encoded, Sizes
from ncbench.backbones.encoders import RegionEncoder, WordEncoder, gru_work, inside, linear_work, xavier_linear
from ncbench.backbones.normalise import l1_normalise, l2_normalise
from ncbench.backbones.summary import RegionSummary, WordSummary, summary_work

GROUP_STEP = 4  # captions are grouped by their number of nodes, rounded up to multiples of this


class AlignmentBackbone(Backbone):
    """What SGR and SAF share: encoders, cross attention and alignment vectors; they differ in how nodes are read."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.image_encoder = RegionEncoder(sizes.image_dim, sizes.embed)
        self.caption_encoder = WordEncoder(sizes.vocabulary, sizes.word, sizes.embed, sizes.dropout)
        self.image_summary = RegionSummary(sizes.embed, sizes.n_regions, sizes.dropout)
        self.caption_summary = WordSummary(sizes.embed, sizes.dropout)
        self.local_alignment = xavier_linear(sizes.embed, sizes.similarity)
        self.global_alignment = xavier_linear(sizes.embed, sizes.similarity)
        self.head = xavier_linear(sizes.similarity, 1)

    def _encode_images(self, images: Tensor) -> Encoded:
        regions = self.image_encoder(images)
        return Encoded((regions, self.image_summary(regions)))

    def _encode_captions(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        words = self.caption_encoder(tokens, lengths)
        return Encoded((words, self.caption_summary(words, inside(lengths, words)), lengths))

    def _lengths(self, captions: Encoded) -> list[int]:
        return [int(length) for length in captions.parts[2].tolist()]

    def _score(self, images: Encoded, captions: Encoded) -> Tensor:
        order = self._reading_order(captions.parts[2])
        regions, image_summary = images.parts
        words, caption_summary, lengths = captions.take(order).parts
        words = words[:, : int(lengths.max())]
        valid = inside(lengths, words)
        contexts = attend_regions(regions, words, valid)
        local = l2_normalise(self.local_alignment((contexts - words[valid]).square()))
        overall = l2_normalise(self.global_alignment((image_summary[:, None] - caption_summary).square()))
        groups = _node_groups(overall, local, lengths, self._group_sizes(lengths))
        node = torch.cat([self._read(nodes, exist) for nodes, exist in groups], 1)
        similarities: Tensor = self.head(node).squeeze(-1).sigmoid()
        return similarities[:, order.argsort()]

    def _reading_order(self, lengths: Tensor) -> Tensor:
        """Return the order in which captions of `lengths` (C,) are read: as given, unless a head does better."""
        return torch.arange(len(lengths))

    def _group_sizes(self, lengths: Tensor) -> list[int]:
        """Return how many captions, in reading order, are read at a time, padded to the longest of them."""
        return [len(lengths)]

    @abstractmethod
    def _read(self, nodes: Tensor, valid: Tensor) -> Tensor:
        """Return one vector (I, C, S) per pair from its nodes (I, C, N, S), `valid` (C, N) of which exist."""

    def image_work(self, n_regions: int) -> int:
        """Return the FLOPs of encoding one image."""
        project = n_regions * linear_work(self.sizes.image_dim, self.sizes.embed)
        return project + summary_work(self.sizes.embed, n_regions)

    def caption_work(self, length: int) -> int:
        """Return the FLOPs of encoding one caption of `length` tokens."""
        recurrent = length * gru_work(self.sizes.word, self.sizes.embed, directions=2)
        return recurrent + summary_work(self.sizes.embed, length)

    def pair_work(self, n_regions: int, length: int) -> int:
        """Return the FLOPs of scoring one encoded image against one encoded caption."""
        embed, similarity = self.sizes.embed, self.sizes.similarity
        attention = 2 * length * linear_work(n_regions, embed)
        alignment = (length + 1) * linear_work(embed, similarity)
        return attention + alignment + self._read_work(length + 1) + linear_work(similarity, 1)

    def pair_bytes(self, n_regions: int, length: int) -> int:
        """Return the bytes that scoring one pair without gradients holds at its peak (an estimate)."""
        wide = 3 * length * self.sizes.embed + 3 * n_regions * length
        return FLOAT_BYTES * (wide + 5 * (length + 1) * self.sizes.similarity)

    @abstractmethod
    def _read_work(self, n_nodes: int) -> int: ...


def _node_groups(
    overall: Tensor, local: Tensor, lengths: Tensor, sizes: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield nodes (I, C', N, S) and which of them exist (C', N), for groups of `sizes` captions one after another.

    `overall` (I, C, S) are the global vectors, `local` (I, T, S) those of the words of all captions, one caption after
    another, and `lengths` (C,) the words of each. The global node comes first; nodes that do not exist are zero.
    """
    caption = word = 0
    for size in sizes:
        group = lengths[caption : caption + size]
        n_words = int(group.sum())
        firsts, words = overall[:, caption : caption + size, None], local[:, word : word + n_words]
        caption, word = caption + size, word + n_words
        rest = local.new_zeros(len(local), len(group), int(group.max()), local.shape[-1])
        exist = inside(group + 1, rest, rest.shape[2] + 1)
        rest[:, exist[:, 1:]] = words
        yield torch.cat([firsts, rest], 2), exist


class ReasoningStep(nn.Module):
    """One step of similarity graph reasoning: nodes exchange messages along learned edges (SGRAF, eq. 8-9)."""

    def __init__(self, similarity: int) -> None:
        super().__init__()
        self.query = xavier_linear(similarity, similarity)
        self.key = xavier_linear(similarity, similarity)
        self.update = xavier_linear(similarity, similarity)

    def forward(self, readers: Tensor, nodes: Tensor, valid: Tensor) -> Tensor:
        """Return the new state (P, M, S) of `readers` (P, M, S), which read `nodes` (P, N, S) where `valid` (P, 1, N).

        With q = W_q x + b_q and k = W_k y + b_k, the terms of q . k that do not depend on y are constant along the
        softmax and drop out: what remains is (W_k^T W_q x + W_k^T b_q) . y.
        """
        queries = readers @ (self.query.weight.T @ self.key.weight) + self.query.bias @ self.key.weight
        edges = (queries @ nodes.transpose(1, 2)).masked_fill(~valid, float("-inf")).softmax(-1)
        state: Tensor = self.update(edges @ nodes).relu()
        return state


class SGR(AlignmentBackbone):
    """Similarity graph reasoning: three steps over the alignment vectors, then the global node is read."""

    N_STEPS = 3

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.steps = nn.ModuleList(ReasoningStep(sizes.similarity) for _ in range(self.N_STEPS))

    def _reading_order(self, lengths: Tensor) -> Tensor:
        return lengths.argsort(stable=True)

    def _group_sizes(self, lengths: Tensor) -> list[int]:
        # Edges are quadratic in the nodes: padding every caption to the longest would cost more than further groups.
        rounded = (lengths + GROUP_STEP) // GROUP_STEP
        return [int(n) for n in torch.unique_consecutive(rounded, return_counts=True)[1].tolist()]

    def _read(self, nodes: Tensor, valid: Tensor) -> Tensor:
        n_images, n_captions = nodes.shape[:2]
        flat = nodes.flatten(0, 1)
        seen = valid.repeat(n_images, 1)[:, None]
        *inner, last = self.steps
        for step in inner:
            flat = step(flat, flat, seen)
        node: Tensor = last(flat[:, :1], flat, seen)
        return node.view(n_images, n_captions, -1)

    def _read_work(self, n_nodes: int) -> int:
        size = self.sizes.similarity
        per_reader = 2 * linear_work(size, size) + 2 * linear_work(size, n_nodes)
        readers = (self.N_STEPS - 1) * n_nodes + 1
        return readers * per_reader


class SAF(AlignmentBackbone):
    """Similarity attention filtration: alignment vectors are averaged by a sigmoid gate (SGRAF, eq. 11-12)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.gate = xavier_linear(sizes.similarity, 1)
        self.gate_norm = PerCaptionBatchNorm()

    def _read(self, nodes: Tensor, valid: Tensor) -> Tensor:
        logits = self.gate_norm(self.gate(nodes).squeeze(-1), valid)
        weights = l1_normalise(logits.sigmoid() * valid)
        return l2_normalise((weights[:, :, None] @ nodes).squeeze(2))

    def _read_work(self, n_nodes: int) -> int:
        return 2 * n_nodes * linear_work(self.sizes.similarity, 1)


class PerCaptionBatchNorm(nn.Module):
    """Batch norm of one channel whose batches are single captions, as the published loop over captions has it.

    In training each caption is normalised by its own statistics over images and nodes (biased variance), and the
    running statistics take one update per caption, in the order of the batch (unbiased variance). All captions of a
    batch must therefore come in one call.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.epsilon = momentum, epsilon
        self.weight = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))
        self.register_buffer("running_mean", torch.zeros(1))
        self.register_buffer("running_var", torch.ones(1))

    def forward(self, logits: Tensor, valid: Tensor) -> Tensor:
        """Normalise `logits` (I, C, N), of which `valid` (C, N) exist; the others come out as something finite."""
        if not self.training:
            return self._scale(logits, self.running_mean, self.running_var)
        count = len(logits) * valid.sum(1)
        mean = (logits * valid).sum((0, 2)) / count
        centred = (logits - mean[:, None]) * valid
        variance = centred.square().sum((0, 2)) / count
        with torch.no_grad():
            self._follow(self.running_mean, mean)
            self._follow(self.running_var, variance * count / (count - 1).clamp(min=1))
        return self._scale(logits, mean[:, None], variance[:, None])

    def _scale(self, logits: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return (logits - mean) / (variance + self.epsilon).sqrt() * self.weight + self.bias

    def _follow(self, running: Tensor, values: Tensor) -> None:
        # C updates r <- (1 - m) r + m v_c in one: value c decays once for every caption behind it.
        decay = (1 - self.momentum) ** torch.arange(len(values) - 1, -1, -1, device=values.device)
        running.mul_((1 - self.momentum) ** len(values)).add_(self.momentum * (decay * values).sum())
