"""Parity of SGR and SAF with numbers from the released code (evaluation mode, float32)."""

from __future__ import annotations

import pytest
import torch
from golden_networks import load_golden

from ncbench import losses
from ncbench.backbones.released.names import GRAPHS

# Gradients that are zero in exact arithmetic (constants in front of a softmax) are rounding noise of up to 1e-8 in the
# released code, and exact zeros or None here; so are those of queries whose edges have saturated.
FLOOR = 2e-7


@pytest.mark.parametrize("name", ["sgr", "saf"])
def test_scores_and_encodings(name: str) -> None:
    golden, backbone = load_golden(name)
    with torch.no_grad():
        images = backbone.encode_images(golden["images"])
        captions = backbone.encode_captions(golden["captions"], golden["lengths"])
        scores = backbone.score(images, captions)
    torch.testing.assert_close(images.parts[0], golden["img_emb"], rtol=0, atol=1e-6)
    torch.testing.assert_close(captions.parts[0], golden["cap_emb"], rtol=0, atol=1e-6)
    torch.testing.assert_close(scores, golden["sims"], rtol=0, atol=1e-5)
    forward = backbone(golden["images"], golden["captions"], golden["lengths"])
    torch.testing.assert_close(forward, scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["sgr", "saf"])
def test_gradient_norms(name: str) -> None:
    golden, backbone = load_golden(name)
    scores = backbone(golden["images"], golden["captions"], golden["lengths"])
    loss = losses.hinge_max(scores, 0.2)
    loss.backward()
    assert loss.item() == pytest.approx(golden["triplet_max_violation"].item(), rel=1e-5)
    prefix = "gradnorm/"
    stored = {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}
    expected = GRAPHS.renamed(stored)
    parameters = dict(backbone.named_parameters())
    assert set(expected) == set(parameters)
    for key, norm in expected.items():
        gradient = parameters[key].grad
        found = 0.0 if gradient is None else gradient.norm().item()
        assert found == pytest.approx(norm.item(), rel=1e-4, abs=FLOOR), key


@pytest.mark.parametrize("name", ["sgr", "saf"])
def test_only_softmax_constants_have_no_gradient(name: str) -> None:
    golden, backbone = load_golden(name)
    backbone(golden["images"], golden["captions"], golden["lengths"]).sum().backward()
    without = {key for key, weight in backbone.named_parameters() if weight.grad is None}
    assert without == ({f"steps.{step}.key.bias" for step in range(3)} if name == "sgr" else set())


def test_names_that_are_not_published_are_refused() -> None:
    with pytest.raises(KeyError, match=r"sim_enc\.unheard_of"):
        GRAPHS.renamed({"sim_enc.unheard_of": torch.zeros(1)})


def test_batch_counter_of_the_gate_is_dropped_and_others_are_kept() -> None:
    counters = {
        "sim_enc.SAF_module.bn.num_batches_tracked": torch.tensor(1),
        "sim_enc.v_global_w.embedding_local.1.num_batches_tracked": torch.tensor(2),
    }
    assert GRAPHS.renamed(counters) == {"image_summary.local_norm.num_batches_tracked": torch.tensor(2)}
