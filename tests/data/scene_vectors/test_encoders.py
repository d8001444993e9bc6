"""The two frozen networks: against plain loops over integers, with other kernels, and what they have not seen."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from places import ROOT
from safetensors.numpy import load_file

from ncbench.data.scene_vectors import encoders
from ncbench.data.scene_vectors.encoders import IMAGE_LAYERS, SENTENCE_LAYERS, WEIGHTS, WORDS, encoders_of, shipped
from ncbench.data.scenes.detector import SUM_LIMIT, Layer
from ncbench.data.scenes.grammar import split_words
from ncbench.data.scenes.sample import Series
from ncbench.data.scenes.shipped import SEED, VERSION
from ncbench.data.scenes.shipped import shipped as shipped_features

SERIES = Series(VERSION, SEED, "dev")
TEXTS = [caption.text for number in range(3) for caption in SERIES.captions(number)]
FACTS: dict[str, Any] = json.loads((ROOT / "benchmarks/scenes_vectors.json").read_text())

CODE = """
import hashlib
from ncbench.data.scene_vectors.encoders import shipped
from ncbench.data.scenes.sample import Series
from ncbench.data.scenes.shipped import SEED, VERSION, shipped as shipped_features
series = Series(VERSION, SEED, "dev")
images, sentences = shipped()
seen = images(shipped_features(series, 40).features)
said = sentences([caption.text for number in range(8) for caption in series.captions(number)])
print(hashlib.sha256(seen.tobytes() + said.tobytes()).hexdigest())
"""
DIGEST = "ff0476ec2b610fa6a40574cb2fbf373f6d508a148663fa6db3914bde7b8bdbd5"


def plain(layer: Layer, inputs: list[int]) -> list[int]:
    """A layer in Python's integers."""
    weight, bias = layer.weight.astype(int).tolist(), layer.bias.astype(int).tolist()
    found = []
    for column in range(len(bias)):
        total = bias[column] + sum(value * row[column] for value, row in zip(inputs, weight, strict=True))
        found.append(min(127, max(0, total >> layer.shift)))
    return found


def test_pictures_against_plain_loops() -> None:
    encoder, regions = shipped()[0], shipped_features(SERIES, 2).features
    first, second, last = encoder.layers
    for picture, found in zip(regions.tolist(), encoder(regions).tolist(), strict=True):
        states = [plain(second, plain(first, region)) for region in picture]
        assert found == plain(last, [max(column) for column in zip(*states, strict=True)])


def test_sentences_against_plain_loops() -> None:
    encoder, text = shipped()[1], "a red house on qqq a tree"
    first, second, last = encoder.layers
    words = split_words(text)
    numbers = [encoder.numbers.get(word, 0) for word in words]
    assert numbers[words.index("qqq")] == 0
    states = encoder.embedding.astype(int)[numbers].tolist()
    for layer in (first, second):
        ends = [0] * len(states[0])
        wide = [ends, *states, ends]
        states = [
            plain(layer, [*wide[n], *wide[n + 1], *wide[n + 2]]) if numbers[n] else [0] * len(layer.bias)
            for n in range(len(numbers))
        ]
    expected = plain(last, [max(column) for column in zip(*states, strict=True)])
    assert encoder([text]).tolist() == [expected]
    assert encoder([text, " ".join(["house"] * 30)])[0].tolist() == expected, "the padding has no say"


def test_batches_have_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    images, sentences = shipped()
    regions = shipped_features(SERIES, 7).features
    whole = images(regions), sentences(TEXTS)
    monkeypatch.setattr(encoders, "_BATCH_SIZE", 3)
    assert (images(regions) == whole[0]).all()
    assert (sentences(TEXTS) == whole[1]).all()


def test_a_sentence_without_known_words_has_a_vector() -> None:
    assert shipped()[1](["", "qqq"]).shape == (2, 192)


def test_sums_are_exact_in_float32() -> None:
    for encoder in shipped():
        assert all(layer.largest_sum() < SUM_LIMIT for layer in encoder.layers)
    weights = load_file(WEIGHTS)
    bias = weights["image.vector.bias"].copy()
    bias[3] = SUM_LIMIT
    with pytest.raises(ValueError, match=r"^sums of layer image\.vector reach \d+, expected below 16777216$"):
        encoders_of({**weights, "image.vector.bias": bias})


@pytest.mark.parametrize("settings", [{}, {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"}])
def test_the_same_bytes_with_other_kernels(settings: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == DIGEST


def test_the_file_is_the_one_whose_numbers_are_given() -> None:
    weights = load_file(WEIGHTS)
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == FACTS["sha256"]
    layers = {f"{name}.{part}" for name in (*IMAGE_LAYERS, *SENTENCE_LAYERS) for part in ("weight", "bias", "shift")}
    assert set(weights) == {*layers, "sentence.embedding", WORDS}


def test_the_networks_have_seen_no_split_and_not_the_same_scenes() -> None:
    from scenes_vectors import PICTURES, SENTENCES

    assert len({PICTURES.seed, SENTENCES.seed, SEED}) == 3
    assert (FACTS["pictures"]["seed"], FACTS["sentences"]["seed"]) == (PICTURES.seed, SENTENCES.seed)
    assert PICTURES.scene(0) != SENTENCES.scene(0) != SERIES.scene(0)
