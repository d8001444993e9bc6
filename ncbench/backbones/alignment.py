"""Alignment vectors: the difference between a word and its attended regions, in few dimensions (SGRAF, eq. 1-2).

Also the difference between a region and the region in the same slot of another image. The differences are as wide as
the joint space, for every word or region of every pair: by far the largest tensor of a training step. They are computed
in pieces that fit into a cache, and recomputed in the backward pass instead of being stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ncbench.backbones.derivatives import differentiable_gradients
from ncbench.backbones.normalise import l2_normalise, norm_and_scale, radial_part, through_norm
from ncbench.backbones.pieces import piece_bytes, spans


def align_words(regions: Tensor, attention: Tensor, words: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return l2(W (l2(P v) - w)^2 + b), unit vectors (I, T, S): each word w against the regions v it attends to.

    `regions` v (I, R, E), `attention` P (I, T, R), `words` w (T, E), `weight` W (S, E), `bias` b (S,).
    """
    result: Tensor = _AlignWords.apply(regions, attention, words, weight, bias)  # type: ignore[no-untyped-call]
    return result


def align_slots(regions: Tensor, others: Tensor, weight: Tensor, bias: Tensor, offset: float) -> Tensor:
    """Return l2(W ((v - u)^2 + offset) + b), unit vectors (I, J, R, S): each region v against u of the same slot.

    `regions` v (I, R, E), `others` u (J, R, E), `weight` W (S, E), `bias` b (S,). Source: the released code of GSC.
    """
    shifted = bias + offset * weight.sum(1)
    mapped: Tensor = _MapSlots.apply(regions, others, weight, shifted)  # type: ignore[no-untyped-call]
    return l2_normalise(mapped)


def _map_slots_plainly(regions: Tensor, others: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return W (v - u)^2 + b in one piece, with operations that support higher derivatives."""
    return functional.linear((regions[:, None] - others).square(), weight, bias).to(regions.dtype)


class _MapSlots(torch.autograd.Function):
    """W (v - u)^2 + b, (I, J, R, S), in pieces; the differences are recomputed in the backward pass."""

    @staticmethod
    def forward(ctx: Any, regions: Tensor, others: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        mapped = regions.new_empty(len(regions), *others.shape[:2], len(weight))
        for piece in _pieces(regions, others):
            mapped[piece] = _map_slots_plainly(regions[piece], others, weight, bias)
        ctx.save_for_backward(regions, others, weight, bias)
        ctx.autocast = _autocast(regions)
        return mapped

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        regions, others, weight, bias = ctx.saved_tensors
        with torch.autocast(regions.device.type, **ctx.autocast):
            if torch.is_grad_enabled():  # a second derivative may follow
                return differentiable_gradients(_map_slots_plainly, (regions, others, weight, bias), grad)
            of_regions, of_others, of_weight = map(torch.zeros_like, (regions, others, weight))
            for piece in _pieces(regions, others):
                difference = regions[piece, None] - others
                unit = ((2 * grad[piece]) @ weight).to(regions.dtype).mul_(difference)
                of_regions[piece] = unit.sum(1)
                of_others -= unit.sum(0)
                of_weight += grad[piece].flatten(0, 2).T @ difference.square_().flatten(0, 2)
            return of_regions, of_others, of_weight, grad.sum((0, 1, 2))


def align_plainly(regions: Tensor, attention: Tensor, words: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute `align_words` in one piece, with operations that support higher derivatives.

    `words` may also be (I, T, E), to align words i with image i only.
    """
    seen = l2_normalise((attention @ regions).to(words.dtype))
    return l2_normalise(functional.linear((seen - words).square(), weight, bias).to(words.dtype))


class _AlignWords(torch.autograd.Function):
    """The backward pass never forms the gradient of the attended vector c = P v, with norm n.

    With u the gradient of c / (n + eps), s = 1 / (n + eps) and r its radial part, dc = s u - s^2 r c. It is needed
    only in dc v^T = s (u v^T) - s^2 r (P v v^T) and P^T dc = (s P)^T u - (s^2 r P)^T P v, where all products except
    those with u are small; r needs u . c = P . (u v^T).
    """

    @staticmethod
    def forward(ctx: Any, regions: Tensor, attention: Tensor, words: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        n_images, n_words = attention.shape[:2]
        vectors = words.new_empty(n_images, n_words, len(weight))
        minus = -words
        norms = [words.new_empty(n_images, n_words, 1) for _ in range(4)]
        for piece in _pieces(regions, words):
            seen = (attention[piece] @ regions[piece]).to(words.dtype)
            seen_norm, seen_scale = norm_and_scale(seen)
            squares = torch.addcmul(minus, seen, seen_scale, out=seen).square_()
            mapped = functional.linear(squares, weight, bias).to(words.dtype)
            norm, scale = norm_and_scale(mapped)
            torch.mul(mapped, scale, out=vectors[piece])
            for whole, part in zip(norms, (seen_norm, seen_scale, norm, scale), strict=True):
                whole[piece] = part
        ctx.save_for_backward(regions, attention, words, weight, bias, vectors, *norms)
        ctx.autocast = _autocast(regions)
        return vectors

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        regions, attention, words, weight, bias, vectors, *norms = ctx.saved_tensors
        with torch.autocast(regions.device.type, **ctx.autocast):
            if torch.is_grad_enabled():  # a second derivative may follow
                inputs = (regions, attention, words, weight, bias)
                return differentiable_gradients(align_plainly, inputs, grad)
            return _gradients(grad, regions, attention, words, weight, vectors, *norms)


def _gradients(
    grad: Tensor,
    regions: Tensor,
    attention: Tensor,
    words: Tensor,
    weight: Tensor,
    vectors: Tensor,
    seen_norms: Tensor,
    seen_scales: Tensor,
    norms: Tensor,
    scales: Tensor,
) -> tuple[Tensor, ...]:
    """Return the gradients of the inputs of `align_words`, given `grad` of its `vectors`, piece by piece."""
    minus = -words
    of_regions, of_attention = torch.empty_like(regions), torch.empty_like(attention)
    of_words, of_weight, of_bias = torch.zeros_like(words), torch.zeros_like(weight), weight.new_zeros(len(weight))
    for piece in _pieces(regions, words):
        mapped = through_norm(grad[piece], vectors[piece], norms[piece], scales[piece])
        probs, values, scale = attention[piece], regions[piece], seen_scales[piece]
        difference = (probs @ values).to(words.dtype)
        torch.addcmul(minus, difference, scale, out=difference)
        unit = ((2 * mapped) @ weight).to(words.dtype).mul_(difference)  # u
        of_weight += mapped.flatten(0, 1).T @ difference.square_().flatten(0, 1)
        of_bias += mapped.sum((0, 1))
        of_words -= unit.sum(0)
        along = (unit @ values.transpose(1, 2)).to(words.dtype)  # u v^T
        lost = scale.square() * radial_part((probs * along).sum(-1, keepdim=True) * scale, seen_norms[piece])
        of_attention[piece] = scale * along - lost * (probs @ (values @ values.transpose(1, 2)))
        shared = (lost * probs).transpose(1, 2) @ probs
        of_regions[piece] = (scale * probs).transpose(1, 2) @ unit - shared @ values
    return of_regions, of_attention, of_words, of_weight, of_bias


def _autocast(like: Tensor) -> dict[str, Any]:
    """Return the current autocast arguments on the device of `like`; the backward pass runs outside of autocast."""
    device = like.device.type
    return {"dtype": torch.get_autocast_dtype(device), "enabled": torch.is_autocast_enabled(device)}


def _pieces(regions: Tensor, words: Tensor) -> Iterator[slice]:
    """Return slices of images such that their attended vectors, one per word, fill one piece."""
    per_image = words.numel() * words.element_size()
    return spans(len(regions), piece_bytes(regions.device) // per_image)
