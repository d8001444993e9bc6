"""SGR and SAF: scores from alignment vectors of words and regions (SGRAF: Diao et al., AAAI 2021).

All captions are scored at once. The values are those of the published per-caption loop, by fewer products:
`Q K^T` needs one map of the nodes, since terms that are constant along the softmax axis drop out, and the last
reasoning step computes the one node that is read.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncbench.backbones.alignment import align_plainly, align_slots, align_words
from ncbench.backbones.attention import own_attention, region_attention
from ncbench.backbones.base import FLOAT_BYTES, Backbone, Encoded, Sizes
from ncbench.backbones.encoders import RegionEncoder, WordEncoder, gru_work, inside, linear_work, xavier_linear
from ncbench.backbones.head import head_work, pair_head, sigmoids
from ncbench.backbones.normalise import l1_normalise, l2_normalise
from ncbench.backbones.pieces import group_sizes, piece_bytes
from ncbench.backbones.summary import RegionSummary, WordSummary, summary_work

APART = 1e-6  # added where an item may be compared with itself: a vector of length 0 has no direction (GSC)


@dataclass(frozen=True)
class Sight:
    """What words attend to: the regions (I, R, E) of images, or the words of captions, and their summaries (I, E).

    `exist` (I, R) bool says which are words, not padding; None says that they are regions.
    """

    parts: Tensor
    summary: Tensor
    exist: Tensor | None = None

    @property
    def of_captions(self) -> bool:
        """Whether captions are seen, not images."""
        return self.exist is not None


@dataclass(frozen=True)
class Nodes:
    """Alignment vectors of all images and a group of captions: the global one, then those of the words.

    `vectors` (I, C, N, S); `exist` (C, N) bool, None where all do. Vectors that do not exist are finite.
    """

    vectors: Tensor
    exist: Tensor | None

    @staticmethod
    def of(overall: Tensor, local: Tensor, lengths: Tensor) -> Nodes:
        """Return nodes from global vectors (I, C, S) and those of words (I, C, L, S), of captions of `lengths` (C,)."""
        vectors = torch.cat([overall[:, :, None], local], 2)
        alike = int(lengths.min()) == local.shape[2]
        return Nodes(vectors, None if alike else inside(lengths + 1, vectors, vectors.shape[2]))

    def which(self) -> Tensor:
        """Return which nodes exist: (C, N) bool."""
        return self.vectors.new_ones(self.vectors.shape[1:3], dtype=torch.bool) if self.exist is None else self.exist

    def hidden(self) -> Tensor | None:
        """Return (C, 1, N), -inf for nodes that do not exist, else 0; None where all do."""
        if self.exist is None:
            return None
        return self.vectors.new_zeros(self.exist.shape).masked_fill_(~self.exist, float("-inf"))[:, None]


class AlignmentBackbone(Backbone):
    """What SGR and SAF share: encoders, cross attention and alignment vectors; they differ in how nodes are read."""

    IN_UNIT_INTERVAL = True
    HAS_BF16 = True
    ABILITIES = frozenset({"head", "within"})
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
        with self.lowered():
            regions = self.image_encoder(images)
            return Encoded((regions, self.image_summary(regions)))

    def _encode_captions(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        words = self.caption_encoder(tokens, lengths)
        return Encoded((words, self.caption_summary(words, inside(lengths, words)), lengths))

    def _lengths(self, captions: Encoded) -> list[int]:
        return [int(length) for length in captions.parts[2].tolist()]

    def _score(self, images: Encoded, captions: Encoded) -> Tensor:
        return self._compare(Sight(*images.parts), captions)

    def _score_captions(self, captions: Encoded, others: Encoded) -> Tensor:
        words, summary, lengths = captions.parts
        return self._compare(Sight(words + APART, summary, inside(lengths, words)), others)

    def _score_images(self, images: Encoded, others: Encoded) -> Tensor:
        (regions, summary), (other_regions, other_summary) = images.parts, others.parts
        layer = self.local_alignment
        with self.lowered():
            slots = align_slots(regions, other_regions, layer.weight, layer.bias, APART)
            overall = self._align_summaries(summary, other_summary, APART)
            nodes = Nodes(torch.cat([overall[:, :, None], slots], 2), None)
            node = self._read([nodes], torch.arange(len(others)), follow=False)
        return self._judge(node, regions.dtype)

    def _compare(self, sight: Sight, captions: Encoded) -> Tensor:
        """Return the similarities (I, C) of what is seen and captions, whose words attend to it."""
        lengths = captions.parts[2]
        order = lengths.argsort(stable=True)
        back = order.argsort()
        word_bytes = FLOAT_BYTES * len(sight.parts) * self.sizes.embed
        sizes = group_sizes(lengths[order].tolist(), word_bytes, piece_bytes(sight.parts.device))
        with self.lowered():
            taken = (captions.take(chosen) for chosen in torch.split(order, sizes))
            node = self._read([self._nodes(sight, group) for group in taken], back, follow=not sight.of_captions)
        return self._judge(node, sight.parts.dtype)[:, back]

    def _judge(self, node: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the similarities (I, C) of the vectors (I, C, S) that were read."""
        # Scores of few digits would tie.
        return sigmoids(node.to(dtype), self.head)

    def _score_each(self, images: Encoded, captions: Encoded) -> Tensor:
        regions, image_summary = images.parts
        words, caption_summary, lengths = captions.parts
        words = words[:, : int(lengths.max())]
        layer = self.local_alignment
        with self.lowered():
            local = align_plainly(regions, own_attention(regions, words), words, layer.weight, layer.bias)
            overall = self._align_differences((image_summary - caption_summary).square())
            # One image, of which every caption sees its own side.
            nodes = Nodes.of(overall[None], local[None], lengths)
            node = self._read([nodes], torch.arange(len(lengths)), follow=True)
        return self._judge(node, regions.dtype)[0]

    def _nodes(self, sight: Sight, captions: Encoded) -> Nodes:
        """Return the alignment vectors of all that is seen and of captions of about one length."""
        words, caption_summary, lengths = captions.parts
        words = words[:, : int(lengths.max())]
        layer = self.local_alignment
        attention = region_attention(sight.parts, words, sight.exist)
        local = align_words(sight.parts, attention, words.flatten(0, 1), layer.weight, layer.bias)
        overall = self._align_summaries(sight.summary, caption_summary, APART if sight.of_captions else 0.0)
        return Nodes.of(overall, local.view(len(sight.parts), *words.shape[:2], -1), lengths)

    def _align_summaries(self, summary: Tensor, other: Tensor, apart: float) -> Tensor:
        """Return the global alignment vectors (I, C, S) of summaries (I, E) and (C, E)."""
        difference = (summary[:, None] - other).square()
        return self._align_differences(difference + apart if apart else difference)

    def _align_differences(self, squares: Tensor) -> Tensor:
        """Return the global alignment vectors (..., S) of squared differences of summaries (..., E)."""
        return l2_normalise(self.global_alignment(squares))

    @abstractmethod
    def _read(self, groups: Sequence[Nodes], back: Tensor, follow: bool) -> Tensor:
        """Return one vector per pair, (I, C, S), of all groups; `back` (C,) would sort captions as they were given.

        `follow` says whether running statistics follow those of these pairs, as they do across modalities only.
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
        """Return the FLOPs of scoring one encoded caption against another, whose words attend to those of the first."""
        return self.pair_work(length, other_length)

    def _nodes_work(self, n_nodes: int) -> int:
        """Return the FLOPs of making, reading and judging the alignment vectors of one pair."""
        embed, similarity = self.sizes.embed, self.sizes.similarity
        work = n_nodes * linear_work(embed, similarity) + self._read_work(n_nodes)
        return work + head_work(similarity, self.sizes.head)

    def pair_bytes(self, n_regions: int, length: int) -> int:
        """Return the bytes that scoring one pair without gradients holds at its peak (an estimate).

        Three attentions, or the vectors twice; what words see is made in pieces, however many the pairs.
        """
        return FLOAT_BYTES * (3 * n_regions * length + 3 * (length + 1) * self.sizes.similarity)

    @abstractmethod
    def _read_work(self, n_nodes: int) -> int: ...


class ReasoningStep(nn.Module):
    """One step of similarity graph reasoning: nodes exchange messages along learned edges (SGRAF, eq. 8-9)."""

    def __init__(self, similarity: int) -> None:
        super().__init__()
        self.query = xavier_linear(similarity, similarity)
        self.key = xavier_linear(similarity, similarity)
        self.update = xavier_linear(similarity, similarity)

    def fold(self) -> tuple[Tensor, Tensor]:
        """Return what edges are made of: a matrix (S, S) between reader and node, and a level (S,) of nodes.

        With q = W_q x + b_q and k = W_k y + b_k, the terms of q . k that do not depend on y are constant along the
        softmax and drop out: what remains is (W_q^T W_k) between x and y, and b_q W_k times y.
        """
        return self.query.weight.T @ self.key.weight, self.query.bias @ self.key.weight

    def forward(self, readers: Tensor, nodes: Tensor, hidden: Tensor | None, folded: tuple[Tensor, Tensor]) -> Tensor:
        """Return the new state (P, M, S) of `readers` (P, M, S), which read `nodes` (P, N, S).

        `hidden` (P, 1, N) is -inf for nodes that do not exist, else 0; None: all do. `folded` comes from `fold`.
        """
        matrix, level = folded
        # As rows of one product: a product for each of few readers would be several times slower.
        asked = torch.addmm(level, readers.flatten(0, 1), matrix).view(readers.shape)
        across = nodes.transpose(1, 2)
        edges = asked @ across if hidden is None else torch.baddbmm(hidden, asked, across)
        state: Tensor = self.update(edges.softmax(-1) @ nodes)
        return functional.relu(state, inplace=True)


class SGR(AlignmentBackbone):
    """Similarity graph reasoning: three steps over the alignment vectors, then the global node is read."""

    N_STEPS = 3

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.steps = nn.ModuleList(ReasoningStep(sizes.similarity) for _ in range(self.N_STEPS))

    def _read(self, groups: Sequence[Nodes], back: Tensor, follow: bool) -> Tensor:
        folded = [step.fold() for step in self._steps]
        return torch.cat([self._reason(group, folded) for group in groups], 1)

    @property
    def _steps(self) -> list[ReasoningStep]:
        return [cast(ReasoningStep, step) for step in self.steps]

    def _reason(self, group: Nodes, folded: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the global node (I, C, S) of a group after all steps."""
        per_image = FLOAT_BYTES * group.vectors[0].numel()
        hidden = group.hidden()
        *inner, last = zip(self._steps, folded, strict=True)
        states = []
        for images in torch.split(group.vectors, max(1, piece_bytes(group.vectors.device) // per_image)):
            nodes = images.flatten(0, 1)
            unread = None if hidden is None else hidden.repeat(len(images), 1, 1)
            for step, edges in inner:
                nodes = step(nodes, nodes, unread, edges)
            state = last[0](nodes[:, :1], nodes, unread, last[1])
            states.append(state.view(*images.shape[:2], -1))
        return torch.cat(states)

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

    def _read(self, groups: Sequence[Nodes], back: Tensor, follow: bool) -> Tensor:
        exist = _side_by_side([group.which() for group in groups])
        logits = _side_by_side([self.gate(group.vectors).squeeze(-1).to(group.vectors.dtype) for group in groups])
        normalised = self.gate_norm(logits[:, back], exist[back], follow)[:, back.argsort()]
        weights = l1_normalise(normalised.sigmoid() * exist)[:, :, None]
        means = [
            share[..., : group.vectors.shape[2]] @ group.vectors
            for share, group in zip(
                torch.split(weights, [group.vectors.shape[1] for group in groups], 1), groups, strict=True
            )
        ]
        return l2_normalise(torch.cat(means, 1).squeeze(2))

    def _read_work(self, n_nodes: int) -> int:
        return 2 * n_nodes * linear_work(self.sizes.similarity, 1)


def _side_by_side(groups: Sequence[Tensor]) -> Tensor:
    """Return (..., C, N) of groups (..., C', N'), padded to the longest with zeros (False)."""
    longest = max(group.shape[-1] for group in groups)
    return torch.cat([functional.pad(group, (0, longest - group.shape[-1])) for group in groups], -2)


class PerCaptionBatchNorm(nn.Module):
    """Batch norm of one channel whose batches are single captions, as the published loop over captions has it.

    In training each caption is normalised by its own statistics over images and nodes (biased variance), and the
    running statistics take one update per caption, in the order of the batch (unbiased variance). All captions of a
    batch must therefore come in one call. Where the running statistics do not `follow`, they stay.
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

    def forward(self, logits: Tensor, valid: Tensor, follow: bool = True) -> Tensor:
        """Normalise `logits` (I, C, N), of which `valid` (C, N) exist; the others come out as something finite."""
        if not self.training:
            return self._scale(logits, self.running_mean, self.running_var)
        count = len(logits) * valid.sum(1)
        mean = (logits * valid).sum((0, 2)) / count
        centred = (logits - mean[:, None]) * valid
        variance = centred.square().sum((0, 2)) / count
        if follow:
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
