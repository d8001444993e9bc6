"""Alignment vectors against plain operations and a loop over images and words; the memory they keep."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ncbench.backbones import alignment, pieces
from ncbench.backbones.alignment import align_plainly, align_slots, align_words

NAMES = ("regions", "attention", "words", "weight", "bias")
SHAPES = [  # images, regions, words, joint space, similarity space
    pytest.param((3, 4, 5, 6, 2), id="general"),
    pytest.param((5, 7, 2, 3, 4), id="more-regions-than-dimensions"),
    pytest.param((1, 4, 5, 6, 2), id="one-image"),
    pytest.param((3, 1, 5, 6, 2), id="one-region"),
    pytest.param((3, 4, 1, 6, 2), id="one-word"),
    pytest.param((3, 4, 5, 6, 1), id="one-similarity"),
    pytest.param((1, 1, 1, 2, 2), id="hardly-anything"),
]
GENERAL = (3, 4, 5, 6, 2)


def inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    n_images, n_regions, n_words, embed, similarity = shape
    generator = torch.Generator().manual_seed(sum(shape))

    def random(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator, dtype=torch.float64)

    return [
        tensor.to(dtype).requires_grad_()
        for tensor in (
            random(n_images, n_regions, embed),
            random(n_images, n_words, n_regions).softmax(2),
            random(n_words, embed),
            random(similarity, embed),
            random(similarity),
        )
    ]


def align_one_by_one(regions: Tensor, attention: Tensor, words: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    rows = []
    for image, looks in zip(regions, attention, strict=True):
        row = []
        for look, word in zip(looks, words, strict=True):
            seen = sum(share * region for share, region in zip(look, image, strict=True))
            seen = seen / (seen.dot(seen).sqrt() + 1e-8)
            mapped = torch.stack([((seen - word) ** 2 * line).sum() for line in weight]) + bias
            row.append(mapped / (mapped.dot(mapped).sqrt() + 1e-8))
        rows.append(torch.stack(row))
    return torch.stack(rows)


def value_and_gradients(align: Callable[..., Tensor], tensors: list[Tensor], twice: bool = False) -> list[Tensor]:
    vectors = align(*tensors)
    weights = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return [vectors, *torch.autograd.grad((vectors * weights.to(vectors)).sum(), tensors, create_graph=twice)]


def assert_alike(found: list[Tensor], expected: list[Tensor], gradients: float = 1e-9) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=1e-12, atol=1e-12)
    for name, ours, theirs in zip(NAMES, found[1:], expected[1:], strict=True):
        torch.testing.assert_close(
            ours, theirs, rtol=gradients, atol=gradients, msg=lambda m, name=name: f"{name}: {m}"
        )


def set_piece(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(pieces, "CPU_BYTES", size)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 2**30], ids=["one-image-a-piece", "one-piece"])
def test_values_and_gradients(shape: tuple[int, ...], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    set_piece(monkeypatch, size)
    tensors = inputs(shape)
    expected = value_and_gradients(align_one_by_one, tensors)
    assert_alike(value_and_gradients(align_plainly, tensors), expected)
    assert_alike(value_and_gradients(align_words, tensors), expected)


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (7, 4, 5, 6, 2)
    tensors = inputs(shape)
    per_image = 8 * 5 * 6
    seen = []
    real = alignment.spans
    monkeypatch.setattr(alignment, "spans", lambda *sizes: seen.append(list(real(*sizes))) or iter(seen[-1]))
    results = []
    for size in (1, 2 * per_image, 4 * per_image - 1, 2**30):
        set_piece(monkeypatch, size)
        results.append(value_and_gradients(align_words, tensors))
    assert [len(spans) for spans in seen] == [7, 7, 4, 4, 3, 3, 1, 1]  # each forward, then backward
    for result in results[:-1]:
        assert_alike(result, results[-1], gradients=1e-12)


def test_unit_length() -> None:
    torch.testing.assert_close(align_words(*inputs(GENERAL)).norm(dim=-1), torch.ones(3, 5, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", ["zero-regions", "zero-attention", "word-as-seen", "zero-map"])
def test_zero_vectors_have_finite_gradients(case: str, dtype: torch.dtype) -> None:
    """Attended vectors and differences of zero pass their gradients through, as in `l2_normalise`."""
    tensors = inputs(GENERAL, dtype)
    regions, attention, words, weight, bias = (tensor.data for tensor in tensors)
    if case == "zero-regions":
        regions[1] = 0
    elif case == "zero-attention":
        attention[0, 2] = 0
    elif case == "word-as-seen":
        attention[0, 2] = torch.tensor([1, 0, 0, 0])
        regions[0, 0] = words[2] = torch.tensor([0, 1, 0, 0, 0, 0])
        bias.zero_()
    else:
        weight.zero_()
        bias.zero_()
    found, expected = value_and_gradients(align_words, tensors), value_and_gradients(align_plainly, tensors)
    for name, ours, theirs in zip(("value", *NAMES), found, expected, strict=True):
        assert ours.isfinite().all(), name
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
    if case == "zero-map":
        assert not found[0].any()


def test_what_a_word_sees_of_zero_regions_is_zero() -> None:
    regions, attention, words, weight, bias = inputs(GENERAL)
    expected = words.square() @ weight.T + bias
    expected = expected / expected.norm(dim=1, keepdim=True)
    found = align_words(torch.zeros_like(regions), attention, words, weight, bias)
    torch.testing.assert_close(found, expected.expand(3, 5, 2))


@pytest.mark.parametrize("shape", [(2, 3, 2, 3, 2), (1, 1, 1, 2, 2), (1, 3, 2, 2, 1)])
def test_second_derivatives(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    set_piece(monkeypatch, 1)
    assert torch.autograd.gradcheck(align_words, inputs(shape))
    assert torch.autograd.gradgradcheck(align_words, inputs(shape))


def test_gradients_are_the_same_where_they_are_to_be_differentiated() -> None:
    tensors = inputs(GENERAL)
    again = value_and_gradients(align_words, tensors, twice=True)
    assert all(gradient.requires_grad for gradient in again)
    assert_alike(again, value_and_gradients(align_words, tensors))


def test_gradients_of_inputs_that_depend_on_each_other() -> None:
    """When attention is computed from regions and words, gradients through it must not be counted twice."""
    results = []
    for align, twice in ((align_one_by_one, False), (align_words, False), (align_words, True)):
        regions, _, words, weight, bias = inputs(GENERAL)

        def attend(regions: Tensor, words: Tensor, *weights: Tensor, align: Callable[..., Tensor] = align) -> Tensor:
            return align(regions, (words @ regions.transpose(1, 2)).softmax(2), words, *weights)

        results.append(value_and_gradients(attend, [regions, words, weight, bias], twice))
    expected, *others = results
    for found in others:
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("frozen", NAMES)
@pytest.mark.parametrize("twice", [False, True])
def test_inputs_without_gradients(frozen: str, twice: bool) -> None:
    expected = value_and_gradients(align_one_by_one, inputs(GENERAL))
    tensors = [tensor.requires_grad_(name != frozen) for name, tensor in zip(NAMES, inputs(GENERAL), strict=True)]
    trained = [tensor for tensor in tensors if tensor.requires_grad]
    vectors = align_words(*tensors)
    weights = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    found = torch.autograd.grad((vectors * weights).sum(), trained, create_graph=twice)
    wanted = [gradient for name, gradient in zip(NAMES, expected[1:], strict=True) if name != frozen]
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(5, 7, 4, 64, 8), (4, 36, 12, 128, 32)])
def test_single_precision(shape: tuple[int, ...]) -> None:
    exact, rough = (value_and_gradients(align_words, inputs(shape, dtype)) for dtype in (torch.float64, torch.float32))
    assert {tensor.dtype for tensor in rough} == {torch.float32}
    for name, ours, theirs in zip(("value", *NAMES), rough, exact, strict=True):
        torch.testing.assert_close(
            ours.double() / theirs.abs().max(),
            theirs / theirs.abs().max(),
            rtol=0,
            atol=1e-5,
            msg=lambda m, name=name: f"{name}: {m}",
        )


def test_lowered_precision() -> None:
    """Products in bfloat16 (8 significant bits) give float32 results near the exact ones."""
    shape = (5, 7, 4, 64, 8)
    exact, tensors = value_and_gradients(align_words, inputs(shape)), inputs(shape, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        vectors = align_words(*tensors)
    weights = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    rough = [vectors, *torch.autograd.grad((vectors * weights.float()).sum(), tensors)]
    assert {tensor.dtype for tensor in rough} == {torch.float32}
    for name, ours, theirs in zip(("value", *NAMES), rough, exact, strict=True):
        distance = ((ours - theirs).norm() / theirs.norm()).item()
        assert 1e-4 < distance < 0.03, name


def kept_bytes(align: Callable[..., Tensor], tensors: list[Tensor]) -> int:
    """Return the bytes of distinct tensors, other than the inputs, saved for the backward pass of `align`."""
    inputs_at = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    kept: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in inputs_at:
            kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        align(*tensors)
    return sum(size for size, _ in kept.values())


def test_nothing_as_wide_as_the_joint_space_is_kept() -> None:
    shape = n_images, _, n_words, embed, similarity = (4, 3, 16, 2048, 4)
    tensors = inputs(shape, torch.float32)
    wide = 4 * n_images * n_words * embed
    assert kept_bytes(align_plainly, tensors) >= 2 * wide
    assert kept_bytes(align_words, tensors) == 4 * n_images * n_words * (similarity + 4)  # the vectors, and four norms
    assert 4 * n_images * n_words * (similarity + 4) < wide / 200


# Regions against those of the same slot.

SLOT_SHAPES = [(3, 4, 5, 6, 2), (1, 4, 5, 6, 2), (3, 1, 1, 6, 2), (1, 1, 1, 2, 1)]  # images, regions, others, ...
OFFSET = 0.3


def slot_inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    n_images, n_regions, n_others, embed, similarity = shape
    generator = torch.Generator().manual_seed(sum(shape))
    sizes = [(n_images, n_regions, embed), (n_others, n_regions, embed), (similarity, embed), (similarity,)]
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for size in sizes]


def slots(*tensors: Tensor) -> Tensor:
    return align_slots(*tensors, offset=OFFSET)


def slots_one_by_one(regions: Tensor, others: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    rows = []
    for image in regions:
        row = []
        for other in others:
            mapped = [
                torch.stack([(((v - u) ** 2 + OFFSET) * line).sum() for line in weight]) + bias
                for v, u in zip(image, other, strict=True)
            ]
            row.append(torch.stack([vector / (vector.dot(vector).sqrt() + 1e-8) for vector in mapped]))
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("shape", SLOT_SHAPES)
@pytest.mark.parametrize("size", [1, 2**30], ids=["one-image-a-piece", "one-piece"])
@pytest.mark.parametrize("twice", [False, True])
def test_slots(shape: tuple[int, ...], size: int, twice: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    set_piece(monkeypatch, size)
    tensors = slot_inputs(shape)
    expected = value_and_gradients(slots_one_by_one, tensors)
    for ours, theirs in zip(value_and_gradients(slots, tensors, twice), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_second_derivatives_of_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    set_piece(monkeypatch, 1)
    regions, _, weight, bias = slot_inputs((3, 2, 2, 3, 2))
    assert torch.autograd.gradgradcheck(slots, slot_inputs((2, 3, 2, 3, 2)))
    assert torch.autograd.gradgradcheck(lambda *rest: slots(rest[0], *rest), (regions, weight, bias))


def test_slots_in_lowered_precision() -> None:
    shape = (5, 7, 4, 64, 8)
    exact, tensors = value_and_gradients(slots, slot_inputs(shape)), slot_inputs(shape, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        vectors = slots(*tensors)
    weights = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    rough = [vectors, *torch.autograd.grad((vectors * weights.float()).sum(), tensors)]
    assert {tensor.dtype for tensor in rough} == {torch.float32}
    for ours, theirs in zip(rough, exact, strict=True):
        assert 1e-4 < ((ours - theirs).norm() / theirs.norm()).item() < 0.03


def test_slots_keep_nothing_as_wide_as_the_joint_space() -> None:
    shape = n_images, n_regions, n_others, embed, similarity = (4, 3, 16, 2048, 4)
    per_pair = 4 * n_images * n_others * n_regions
    kept = kept_bytes(slots, slot_inputs(shape, torch.float32))
    assert kept == per_pair * (similarity + 2) + 4 * similarity  # vectors, two norms, and a bias
    assert kept < per_pair * embed / 200
