"""SGR and SAF: scores from alignment vectors of words and regions (SGRAF: Diao et al., AAAI 2021).

All captions are scored at once. The values equal those of the published loop over captions, with fewer products:
`Q K^T` needs one map of the nodes, since terms that are constant along the softmax dimension cancel, and the last
reasoning step computes only the global node.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncbench.backbones.alignment import align_plainly, align_slots, align_words
from ncbench.backbones.attention import own_attention, region_attention
from ncbench.backbones.base import FLOAT_BYTES, Backbone, Encoded, Sizes
from ncbench.backbones.encoders import RegionEncoder, WordEncoder, gru_work, length_mask, linear_work, xavier_linear
from ncbench.backbones.head import head_work, pair_head, sigmoids
from ncbench.backbones.normalise import l1_normalise, l2_normalise
from ncbench.backbones.pieces import group_sizes, piece_bytes
from ncbench.backbones.summary import RegionSummary, WordSummary, summary_work

SELF_OFFSET = 1e-6  # added where an item may be compared with itself, as a zero vector has no direction (GSC)


SMALL_SIZES = {"embed": 64, "similarity": 16, "word": 48}
"""Sizes for datasets that a CPU must manage: every pair of an image and a caption costs as much as it has words."""


@dataclass(frozen=True)
class AttentionTarget:
    """What words attend to: the regions of images or the words of captions, (I, R, E), and their summaries (I, E).

    `mask` (I, R) bool is True for words and False for padding; None for regions.
    """

    vectors: Tensor
    summary: Tensor
    mask: Tensor | None = None

    @property
    def of_captions(self) -> bool:
        """Whether the target is captions, not images."""
        return self.mask is not None


@dataclass(frozen=True)
class Nodes:
    """Alignment vectors of all images and a group of captions: the global node, then a node per word.

    `vectors` (I, C, N, S); `mask` (C, N) bool is False for padding (None: no padding). Padding is finite.
    """

    vectors: Tensor
    mask: Tensor | None

    @staticmethod
    def of(overall: Tensor, local: Tensor, lengths: Tensor) -> Nodes:
        """Return nodes from global vectors (I, C, S) and word vectors (I, C, L, S) of captions of `lengths` (C,)."""
        vectors = torch.cat([overall[:, :, None], local], 2)
        unpadded = int(lengths.min()) == local.shape[2]
        return Nodes(vectors, None if unpadded else length_mask(lengths + 1, vectors, vectors.shape[2]))

    def full_mask(self) -> Tensor:
        """Return the mask, (C, N) bool, also without padding."""
        return self.vectors.new_ones(self.vectors.shape[1:3], dtype=torch.bool) if self.mask is None else self.mask

    def attention_bias(self) -> Tensor | None:
        """Return (C, 1, N): -inf for padding, else 0. None without padding."""
        if self.mask is None:
            return None
        return self.vectors.new_zeros(self.mask.shape).masked_fill_(~self.mask, float("-inf"))[:, None]


class AlignmentBackbone(Backbone):
    """Base class of SGR and SAF: encoders, cross attention and alignment vectors. Subclasses reduce the nodes."""

    IN_UNIT_INTERVAL = True
    HAS_BF16 = True
    ABILITIES = frozenset({"head", "within"})
    PRESETS: ClassVar = {"scenes": SMALL_SIZES, "scenes-large": SMALL_SIZES}
    head: nn.Module

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.image_encoder = RegionEncoder(sizes.image_dim, sizes.embed)
        self.caption_encoder = WordEncoder(sizes.vocabulary, sizes.word, sizes.embed, sizes.dropout)
        self.image_summary = RegionSummary(sizes.embed, sizes.n_regions, sizes.dropout)
        self.caption_summary = WordSummary(sizes.embed, sizes.dropout)
        self.local_alignment = xavier_linear(sizes.embed, sizes.similarity)
        self.global_alignment = xavier_linear(sizes.embed, sizes.similarity)
        self.head = pair_head(sizes.similarity, sizes.head)

    def _encode_images(self, images: Tensor) -> Encoded:
        with self.autocast():
            regions = self.image_encoder(images)
            return Encoded((regions, self.image_summary(regions)))

    def _encode_captions(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        words = self.caption_encoder(tokens, lengths)
        return Encoded((words, self.caption_summary(words, length_mask(lengths, words)), lengths))

    def _lengths(self, captions: Encoded) -> list[int]:
        return [int(length) for length in captions.parts[2].tolist()]

    def _score(self, images: Encoded, captions: Encoded) -> Tensor:
        return self._score_against(AttentionTarget(*images.parts), captions)

    def _score_captions(self, captions: Encoded, others: Encoded) -> Tensor:
        words, summary, lengths = captions.parts
        target = AttentionTarget(words + SELF_OFFSET, summary, length_mask(lengths, words))
        return self._score_against(target, others)

    def _score_images(self, images: Encoded, others: Encoded) -> Tensor:
        (regions, summary), (other_regions, other_summary) = images.parts, others.parts
        layer = self.local_alignment
        with self.autocast():
            slots = align_slots(regions, other_regions, layer.weight, layer.bias, SELF_OFFSET)
            overall = self._align_summaries(summary, other_summary, SELF_OFFSET)
            nodes = Nodes(torch.cat([overall[:, :, None], slots], 2), None)
            vectors = self._reduce([nodes], torch.arange(len(others)), update_stats=False)
        return self._score_vectors(vectors, regions.dtype)

    def _score_against(self, target: AttentionTarget, captions: Encoded) -> Tensor:
        """Return the similarities (I, C) of `target` and captions, whose words attend to it."""
        lengths = captions.parts[2]
        order = lengths.argsort(stable=True)
        inverse = order.argsort()
        word_bytes = FLOAT_BYTES * len(target.vectors) * self.sizes.embed
        sizes = group_sizes(lengths[order].tolist(), word_bytes, piece_bytes(target.vectors.device))
        with self.autocast():
            taken = (captions.take(chosen) for chosen in torch.split(order, sizes))
            groups = [self._nodes(target, group) for group in taken]
            vectors = self._reduce(groups, inverse, update_stats=not target.of_captions)
        return self._score_vectors(vectors, target.vectors.dtype)[:, inverse]

    def _score_vectors(self, vectors: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the similarities (I, C) of pair vectors (I, C, S)."""
        # Not in bf16, whose few digits would make scores tie.
        return sigmoids(vectors.to(dtype), self.head)

    def _score_each(self, images: Encoded, captions: Encoded) -> Tensor:
        regions, image_summary = images.parts
        words, caption_summary, lengths = captions.parts
        words = words[:, : int(lengths.max())]
        layer = self.local_alignment
        with self.autocast():
            local = align_plainly(regions, own_attention(regions, words), words, layer.weight, layer.bias)
            overall = self._align_differences((image_summary - caption_summary).square())
            # As if of one image, since each caption is aligned with its own image only.
            nodes = Nodes.of(overall[None], local[None], lengths)
            vectors = self._reduce([nodes], torch.arange(len(lengths)), update_stats=True)
        return self._score_vectors(vectors, regions.dtype)[0]

    def _nodes(self, target: AttentionTarget, captions: Encoded) -> Nodes:
        """Return the alignment vectors of `target` and captions of about the same length."""
        words, caption_summary, lengths = captions.parts
        words = words[:, : int(lengths.max())]
        layer = self.local_alignment
        attention = region_attention(target.vectors, words, target.mask)
        local = align_words(target.vectors, attention, words.flatten(0, 1), layer.weight, layer.bias)
        overall = self._align_summaries(target.summary, caption_summary, SELF_OFFSET if target.of_captions else 0.0)
        return Nodes.of(overall, local.view(len(target.vectors), *words.shape[:2], -1), lengths)

    def _align_summaries(self, summary: Tensor, other: Tensor, offset: float) -> Tensor:
        """Return the global alignment vectors (I, C, S) of summaries (I, E) and (C, E)."""
        difference = (summary[:, None] - other).square()
        return self._align_differences(difference + offset if offset else difference)

    def _align_differences(self, squares: Tensor) -> Tensor:
        """Return the global alignment vectors (..., S) of squared differences of summaries (..., E)."""
        return l2_normalise(self.global_alignment(squares))

    @abstractmethod
    def _reduce(self, groups: Sequence[Nodes], inverse: Tensor, update_stats: bool) -> Tensor:
        """Return one vector per pair, (I, C, S), for all groups in order.

        Indexing by `inverse` (C,) restores the original order of the captions. `update_stats`: whether to update
        running statistics, which is done across modalities only.
        """

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
        return 2 * length * linear_work(n_regions, self.sizes.embed) + self._nodes_work(length + 1)

    def image_pair_work(self, n_regions: int) -> int:
        """Return the FLOPs of scoring one encoded image against another, slot by slot."""
        return self._nodes_work(n_regions + 1)

    def caption_pair_work(self, length: int, other_length: int) -> int:
        """Return the FLOPs of scoring one encoded caption against another, whose words attend to the first's."""
        return self.pair_work(length, other_length)

    def _nodes_work(self, n_nodes: int) -> int:
        """Return the FLOPs of computing, reducing and scoring the alignment vectors of one pair."""
        embed, similarity = self.sizes.embed, self.sizes.similarity
        work = n_nodes * linear_work(embed, similarity) + self._reduce_work(n_nodes)
        return work + head_work(similarity, self.sizes.head)

    def pair_bytes(self, n_regions: int, length: int) -> int:
        """Return the estimated peak memory, in bytes, of scoring one pair without gradients.

        Attention and alignment vectors, with temporaries. Attended vectors are computed in pieces of a fixed size.
        """
        return FLOAT_BYTES * (3 * n_regions * length + 3 * (length + 1) * self.sizes.similarity)

    @abstractmethod
    def _reduce_work(self, n_nodes: int) -> int: ...


class ReasoningStep(nn.Module):
    """One step of similarity graph reasoning: nodes exchange messages along learned edges (SGRAF, eq. 8-9)."""

    def __init__(self, similarity: int) -> None:
        super().__init__()
        self.query = xavier_linear(similarity, similarity)
        self.key = xavier_linear(similarity, similarity)
        self.update = xavier_linear(similarity, similarity)

    def fold(self) -> tuple[Tensor, Tensor]:
        """Return the folded edge weights: a matrix (S, S) between reader and node, and a vector (S,) of nodes.

        With q = W_q x + b_q and k = W_k y + b_k, the terms of q . k that do not depend on y are constant along the
        softmax and cancel. What remains is x^T (W_q^T W_k) y + (b_q W_k) y.
        """
        return self.query.weight.T @ self.key.weight, self.query.bias @ self.key.weight

    def forward(self, readers: Tensor, nodes: Tensor, bias: Tensor | None, folded: tuple[Tensor, Tensor]) -> Tensor:
        """Return the new state (P, M, S) of `readers` (P, M, S), which attend to `nodes` (P, N, S).

        `bias` (P, 1, N) is -inf for padding, else 0 (None: no padding). `folded` comes from `fold`.
        """
        matrix, vector = folded
        # One product for all rows: with few readers, a product per pair is several times slower.
        queries = torch.addmm(vector, readers.flatten(0, 1), matrix).view(readers.shape)
        keys = nodes.transpose(1, 2)
        edges = queries @ keys if bias is None else torch.baddbmm(bias, queries, keys)
        state: Tensor = self.update(edges.softmax(-1) @ nodes)
        return functional.relu(state, inplace=True)


class SGR(AlignmentBackbone):
    """Similarity graph reasoning: three steps over the alignment vectors; the pair vector is the global node."""

    N_STEPS = 3

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.steps = nn.ModuleList(ReasoningStep(sizes.similarity) for _ in range(self.N_STEPS))

    def _reduce(self, groups: Sequence[Nodes], inverse: Tensor, update_stats: bool) -> Tensor:
        folded = [step.fold() for step in self._steps]
        return torch.cat([self._reason(group, folded) for group in groups], 1)

    @property
    def _steps(self) -> list[ReasoningStep]:
        return [cast(ReasoningStep, step) for step in self.steps]

    def _reason(self, group: Nodes, folded: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the global node (I, C, S) of a group after all steps."""
        per_image = FLOAT_BYTES * group.vectors[0].numel()
        attention_bias = group.attention_bias()
        *inner, last = zip(self._steps, folded, strict=True)
        states = []
        for images in torch.split(group.vectors, max(1, piece_bytes(group.vectors.device) // per_image)):
            nodes = images.flatten(0, 1)
            bias = None if attention_bias is None else attention_bias.repeat(len(images), 1, 1)
            for step, edges in inner:
                nodes = step(nodes, nodes, bias, edges)
            state = last[0](nodes[:, :1], nodes, bias, last[1])
            states.append(state.view(*images.shape[:2], -1))
        return torch.cat(states)

    def _reduce_work(self, n_nodes: int) -> int:
        size = self.sizes.similarity
        per_reader = 2 * linear_work(size, size) + 2 * linear_work(size, n_nodes)
        readers = (self.N_STEPS - 1) * n_nodes + 1
        return readers * per_reader


class SAF(AlignmentBackbone):
    """Similarity attention filtration: a mean of alignment vectors weighted by a sigmoid gate (SGRAF, eq. 11-12)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.gate = xavier_linear(sizes.similarity, 1)
        self.gate_norm = PerCaptionBatchNorm()

    def _reduce(self, groups: Sequence[Nodes], inverse: Tensor, update_stats: bool) -> Tensor:
        mask = _concat_padded([group.full_mask() for group in groups])
        logits = _concat_padded([self.gate(group.vectors).squeeze(-1).to(group.vectors.dtype) for group in groups])
        normalised = self.gate_norm(logits[:, inverse], mask[inverse], update_stats)[:, inverse.argsort()]
        weights = l1_normalise(normalised.sigmoid() * mask)[:, :, None]
        means = [
            share[..., : group.vectors.shape[2]] @ group.vectors
            for share, group in zip(
                torch.split(weights, [group.vectors.shape[1] for group in groups], 1), groups, strict=True
            )
        ]
        return l2_normalise(torch.cat(means, 1).squeeze(2))

    def _reduce_work(self, n_nodes: int) -> int:
        return 2 * n_nodes * linear_work(self.sizes.similarity, 1)


def _concat_padded(groups: Sequence[Tensor]) -> Tensor:
    """Concatenate groups (..., C', N') to (..., C, N), padded with zeros (False) to the longest."""
    longest = max(group.shape[-1] for group in groups)
    return torch.cat([functional.pad(group, (0, longest - group.shape[-1])) for group in groups], -2)


class PerCaptionBatchNorm(nn.Module):
    """Batch norm of one channel with one batch per caption, as in the published loop over captions.

    In training, each caption is normalised by its own statistics over images and nodes (biased variance), and the
    running statistics are updated once per caption, in the order of the batch (unbiased variance). All captions of a
    batch must therefore come in one call. Without `update_stats`, the running statistics do not change.
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

    def forward(self, logits: Tensor, valid: Tensor, update_stats: bool = True) -> Tensor:
        """Normalise `logits` (I, C, N) over positions where `valid` (C, N) is True; other positions stay finite."""
        if not self.training:
            return self._scale(logits, self.running_mean, self.running_var)
        count = len(logits) * valid.sum(1)
        mean = (logits * valid).sum((0, 2)) / count
        centred = (logits - mean[:, None]) * valid
        variance = centred.square().sum((0, 2)) / count
        if update_stats:
            with torch.no_grad():
                self._update_running(self.running_mean, mean)
                self._update_running(self.running_var, variance * count / (count - 1).clamp(min=1))
        return self._scale(logits, mean[:, None], variance[:, None])

    def _scale(self, logits: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return (logits - mean) / (variance + self.epsilon).sqrt() * self.weight + self.bias

    def _update_running(self, running: Tensor, values: Tensor) -> None:
        # All updates r <- (1 - m) r + m v_c at once: value c decays once for each caption after it.
        decay = (1 - self.momentum) ** torch.arange(len(values) - 1, -1, -1, device=values.device)
        running.mul_((1 - self.momentum) ** len(values)).add_(self.momentum * (decay * values).sum())
