"""Alignment vectors: how each word differs from what it sees of an image, in few dimensions (SGRAF, eq. 1-2).

Or how each region differs from the same one of another image. What a word sees, and this difference, is as wide as the
joint space, for every word or region of every pair: by far the largest tensor of a step. It is made in pieces that fit
a cache, and made again in the backward pass instead of being kept.
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
    """Return l2(W (l2(P v) - w)^2 + b), unit vectors (I, T, S): each word w against what it sees of the regions v.

    `regions` v (I, R, E), `attention` P (I, T, R), `words` w (T, E), `weight` W (S, E), `bias` b (S,).
    """
    result: Tensor = _AlignWords.apply(regions, attention, words, weight, bias)  # type: ignore[no-untyped-call]
    return result


def align_slots(regions: Tensor, others: Tensor, weight: Tensor, bias: Tensor, apart: float) -> Tensor:
    """Return l2(W ((v - u)^2 + apart) + b), unit vectors (I, J, R, S): each region v against that of the same slot, u.

    `regions` v (I, R, E), `others` u (J, R, E), `weight` W (S, E), `bias` b (S,). Source: released code of GSC.
    """
    shifted = bias + apart * weight.sum(1)
    mapped: Tensor = _MapSlots.apply(regions, others, weight, shifted)  # type: ignore[no-untyped-call]
    return l2_normalise(mapped)


def _map_slots_plainly(regions: Tensor, others: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return W (v - u)^2 + b in one piece and by operations that can be differentiated repeatedly."""
    return functional.linear((regions[:, None] - others).square(), weight, bias).to(regions.dtype)


class _MapSlots(torch.autograd.Function):
    """W (v - u)^2 + b, (I, J, R, S), from differences that are made in pieces, and made again instead of kept."""

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
    """Return what `align_words` does, in one piece and by operations that can be differentiated repeatedly.

    `words` may also be (I, T, E): those of image i only.
    """
    seen = l2_normalise((attention @ regions).to(words.dtype))
    return l2_normalise(functional.linear((seen - words).square(), weight, bias).to(words.dtype))


class _AlignWords(torch.autograd.Function):
    """The backward pass never forms the gradient of what a word sees, c = P v with norm n.

    With u the gradient of c / (n + eps), s = 1 / (n + eps) and r its radial part, dc = s u - s^2 r c. This is only
    used in dc v^T = s (u v^T) - s^2 r (P v v^T) and P^T dc = (s P)^T u - (s^2 r P)^T P v, where all but the products
    with u are small; and r needs u . c = P . (u v^T).
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
    """Return the gradients of the inputs of `align_words` from that of its `vectors`, piece by piece."""
    minus = -words
    of_regions, of_attention = torch.empty_like(regions), torch.empty_like(attention)
    of_words, of_weight, of_bias = torch.zeros_like(words), torch.zeros_like(weight), weight.new_zeros(len(weight))
    for piece in _pieces(regions, words):
        mapped = through_norm(grad[piece], vectors[piece], norms[piece], scales[piece])
        looks, sight, scale = attention[piece], regions[piece], seen_scales[piece]
        difference = (looks @ sight).to(words.dtype)
        torch.addcmul(minus, difference, scale, out=difference)
        unit = ((2 * mapped) @ weight).to(words.dtype).mul_(difference)  # u
        of_weight += mapped.flatten(0, 1).T @ difference.square_().flatten(0, 1)
        of_bias += mapped.sum((0, 1))
        of_words -= unit.sum(0)
        along = (unit @ sight.transpose(1, 2)).to(words.dtype)  # u v^T
        lost = scale.square() * radial_part((looks * along).sum(-1, keepdim=True) * scale, seen_norms[piece])
        of_attention[piece] = scale * along - lost * (looks @ (sight @ sight.transpose(1, 2)))
        shared = (lost * looks).transpose(1, 2) @ looks
        of_regions[piece] = (scale * looks).transpose(1, 2) @ unit - shared @ sight
    return of_regions, of_attention, of_words, of_weight, of_bias


def _autocast(like: Tensor) -> dict[str, Any]:
    """Return the arguments of an autocast as it is on the device of `like`, for the backward pass, which has none."""
    device = like.device.type
    return {"dtype": torch.get_autocast_dtype(device), "enabled": torch.is_autocast_enabled(device)}


def _pieces(regions: Tensor, words: Tensor) -> Iterator[slice]:
    """Yield the slices of images whose words, times what they see, are of a piece's size."""
    per_image = words.numel() * words.element_size()
    return spans(len(regions), piece_bytes(regions.device) // per_image)
