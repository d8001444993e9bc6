"""Train the two networks behind the dataset `scenes-vectors`, apart from each other, and say what they learned.

Usage: python benchmarks/scenes_vectors.py [--out encoders.safetensors] [--json benchmarks/scenes_vectors.json]

The image network names what is in a picture: which category with which colour, texture and size, and the background.
The sentence network recognises which of 256 sentences is about the same scene (supervised contrast of paraphrases), as
sentence embedders are trained. Its scenes are other ones than those of the image network, and neither are in a split.
Both are trained in floating point on one thread, then rounded to whole numbers, so that a dataset never depends on
training. Training again elsewhere gives similar networks, not the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from whole_numbers import limit_of, rounded_layer

from ncbench.data.scene_vectors.encoders import (
    IMAGE_LAYERS,
    SENTENCE_LAYERS,
    WEIGHTS,
    WORDS,
    ImageEncoder,
    SentenceEncoder,
    encoders_of,
)
from ncbench.data.scenes.detector import ACTIVATION_LIMIT, DIM
from ncbench.data.scenes.grammar import split_words
from ncbench.data.scenes.graph import BACKGROUND_KINDS, CATEGORIES, COLOURS, SIZES, TEXTURES, TINTS, Scene
from ncbench.data.scenes.making import jobs_of, look_at, workers_for
from ncbench.data.scenes.sample import CAPTIONS_PER_PICTURE, Seen, Series
from ncbench.data.scenes.shipped import VERSION
from ncbench.runtime.device import choose_device
from ncbench.runtime.environment import describe as describe_environment

PICTURES = Series(VERSION, 2, "image network")  # the splits use seed 0, the detector 1
SENTENCES = Series(VERSION, 3, "sentence network")
N_PICTURES, N_HELD_OUT, N_SCENES = 4_200, 300, 6_000
TRAINING_SEED = 0
IMAGE_EPOCHS, IMAGE_BATCH, IMAGE_WIDTH, IMAGE_DIM = 40, 64, 128, 256
SENTENCE_EPOCHS, SENTENCE_BATCH, WORD_DIM, SENTENCE_WIDTH, SENTENCE_DIM = 12, 256, 48, 128, 192
CONTRAST_DIM, TEMPERATURE = 64, 0.07
DROPOUT = 0.1
PAIRED = (COLOURS, TEXTURES, SIZES)  # what is named together with the category
LONGEST = 24  # words


class ImageNetwork(nn.Module):
    """The image network in floating point, with inputs and activations in units of ACTIVATION_LIMIT."""

    def __init__(self) -> None:
        super().__init__()
        widths = (DIM, IMAGE_WIDTH, 2 * IMAGE_WIDTH, IMAGE_DIM)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        labels = len(CATEGORIES) * sum(map(len, PAIRED)) + len(BACKGROUND_KINDS) + len(TINTS)
        self.head = nn.Linear(IMAGE_DIM, labels)

    def activations(self, regions: Tensor) -> list[Tensor]:
        """Return the activations of the layers, from regions (n, R, DIM)."""
        first = self.layers[0](regions).relu()
        second = self.layers[1](first).relu()
        pooled = functional.dropout(second.amax(1), DROPOUT, self.training)
        return [first, second, self.layers[2](pooled).relu()]


class SentenceNetwork(nn.Module):
    """The sentence network in floating point."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1 + words, WORD_DIM, padding_idx=0)
        widths = (3 * WORD_DIM, SENTENCE_WIDTH), (3 * SENTENCE_WIDTH, SENTENCE_WIDTH), (SENTENCE_WIDTH, SENTENCE_DIM)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in widths)
        self.head = nn.Linear(SENTENCE_DIM, CONTRAST_DIM)

    def activations(self, ids: Tensor) -> list[Tensor]:
        """Return the activations of the layers, from words (n, LONGEST)."""
        known = (ids > 0)[..., None]
        first = self.layers[0](near(self.embedding(ids))).relu() * known
        second = self.layers[1](near(first)).relu() * known
        return [first, second, self.layers[2](second.amax(1)).relu()]


def near(states: Tensor) -> Tensor:
    """Return each word with its neighbours, as `ncbench.data.scene_vectors.encoders.near`."""
    wide = functional.pad(states, (0, 0, 1, 1))
    return torch.cat([wide[:, place : place + states.shape[1]] for place in range(3)], dim=2)


def labels_of(scene: Scene) -> list[int]:
    """Return the numbers of what is in a scene, among the labels of the image network."""
    found = []
    for one in scene.objects:
        start = 0
        for names, value in zip(PAIRED, (one.colour, one.texture, one.size), strict=True):
            found.append(start + one.category * len(names) + value)
            start += len(CATEGORIES) * len(names)
    start = len(CATEGORIES) * sum(map(len, PAIRED))
    return [*found, start + scene.background, start + len(BACKGROUND_KINDS) + scene.tint]


def optimiser_of(network: nn.Module, lr: float, steps: int) -> tuple[torch.optim.Optimizer, Any]:
    """Return AdamW and its one-cycle schedule."""
    optimiser = torch.optim.AdamW(network.parameters(), lr, weight_decay=1e-2)
    return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, 2 * lr, total_steps=steps)


def train_image_network(regions: Tensor, labels: Tensor) -> ImageNetwork:
    """Return a network that names what is in pictures, from regions (n, R, DIM) and labels (n, L), 0 or 1."""
    torch.manual_seed(TRAINING_SEED)
    network = ImageNetwork()
    optimiser, schedule = optimiser_of(network, 4e-3, IMAGE_EPOCHS * -(-len(regions) // IMAGE_BATCH))
    for epoch in range(IMAGE_EPOCHS):
        for batch in torch.randperm(len(regions)).split(IMAGE_BATCH):
            scores = network.head(network.activations(regions[batch])[-1])
            loss = functional.binary_cross_entropy_with_logits(scores, labels[batch], reduction="sum") / len(batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        click.echo(f"image network, epoch {epoch + 1}: loss {loss.item():.2f}")
    return network.eval()


def train_sentence_network(ids: Tensor, words: int) -> SentenceNetwork:
    """Return a network that recognises paraphrases, from words (scenes, CAPTIONS_PER_PICTURE, LONGEST)."""
    torch.manual_seed(TRAINING_SEED)
    network = SentenceNetwork(words)
    optimiser, schedule = optimiser_of(network, 2e-3, SENTENCE_EPOCHS * (len(ids) // SENTENCE_BATCH))
    for epoch in range(SENTENCE_EPOCHS):
        for batch in torch.randperm(len(ids)).split(SENTENCE_BATCH)[: len(ids) // SENTENCE_BATCH]:
            one = torch.randint(CAPTIONS_PER_PICTURE, (len(batch),))
            other = (one + torch.randint(1, CAPTIONS_PER_PICTURE, (len(batch),))) % CAPTIONS_PER_PICTURE
            sides = [functional.normalize(network.head(network.activations(ids[batch, n])[-1])) for n in (one, other)]
            alike = sides[0] @ sides[1].T / TEMPERATURE
            right = torch.arange(len(batch))
            loss = functional.cross_entropy(alike, right) + functional.cross_entropy(alike.T, right)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        click.echo(f"sentence network, epoch {epoch + 1}: loss {loss.item() / 2:.2f}")
    return network.eval()


@torch.no_grad()
def rounded(image: ImageNetwork, regions: Tensor, sentence: SentenceNetwork, ids: Tensor) -> dict[str, NDArray[Any]]:
    """Return the weights of both networks in whole numbers; regions and words say how large activations are."""
    found: dict[str, NDArray[Any]] = {}
    embedding = sentence.embedding.weight
    unit_of_words = float(abs(embedding).max()) / ACTIVATION_LIMIT
    found["sentence.embedding"] = torch.round(embedding / unit_of_words).to(torch.int8).numpy()
    for names, network, inputs, unit in (
        (IMAGE_LAYERS, image, regions, 1 / ACTIVATION_LIMIT),
        (SENTENCE_LAYERS, sentence, ids, unit_of_words),
    ):
        for name, layer, values in zip(names, network.layers, network.activations(inputs), strict=True):
            limit = limit_of(values) / ACTIVATION_LIMIT
            found.update(rounded_layer(name, layer.weight.T, layer.bias, torch.full((layer.in_features,), unit), limit))
            unit = limit
    return found


def named(image: ImageNetwork, vectors: Tensor, labels: Tensor) -> float:
    """Return the share of right ones among as many best-scored pairs of category and colour as a picture has."""
    pairs = len(CATEGORIES) * len(COLOURS)
    scores = image.head(vectors)[:, :pairs]
    right = [one[row.topk(int(one.sum())).indices].sum() for row, one in zip(scores, labels[:, :pairs], strict=True)]
    return float(sum(right) / labels[:, :pairs].sum())


def recognised(vectors: NDArray[Any]) -> float:
    """Return how often the nearest of the other sentences, by cosine, is about the same scene; (scenes * 5, D)."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-9)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -1)
    scenes = np.arange(len(unit)) // CAPTIONS_PER_PICTURE
    return float((scenes[alike.argmax(1)] == scenes).mean())


def see(jobs: int, file: Path | None) -> NDArray[np.int8]:
    """Return the regions of all pictures, read from `file` if it exists, else drawn and written to it."""
    if file is not None and file.exists():
        found: NDArray[np.int8] = np.load(file)
        return found
    units = jobs_of(PICTURES, 0, N_PICTURES + N_HELD_OUT)
    with workers_for(len(units), jobs) as pool:
        features = Seen.join(look_at(units, pool, lambda pictures: None)).features
    if file is not None:
        np.save(file, features)
    return features


@click.command()
@click.option("--jobs", default=2, show_default=True, help="Processes that draw pictures.")
@click.option("--seen", type=click.Path(path_type=Path), help="Keep the regions of pictures in this file (.npy).")
@click.option("--out", default=WEIGHTS, show_default=True, type=click.Path(path_type=Path))
@click.option("--json", "log", default=Path(__file__).with_suffix(".json"), type=click.Path(path_type=Path))
def main(jobs: int, seen: Path | None, out: Path, log: Path) -> None:
    """Draw, write, train, round, measure and save."""
    torch.set_num_threads(1)
    steps = see(jobs, seen)
    regions = torch.from_numpy(steps).float() / ACTIVATION_LIMIT
    labels = torch.zeros(len(regions), ImageNetwork().head.out_features)
    for number in range(len(regions)):
        labels[number, labels_of(PICTURES.scene(number))] = 1
    texts = [caption.text for number in range(N_SCENES + N_HELD_OUT) for caption in SENTENCES.captions(number)]
    sentences = [split_words(text) for text in texts]
    words = sorted({word for sentence in sentences[: N_SCENES * CAPTIONS_PER_PICTURE] for word in sentence})
    numbers = {word: number for number, word in enumerate(words, start=1)}
    ids = torch.zeros(len(sentences), LONGEST, dtype=torch.int64)
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence)] = torch.tensor([numbers.get(word, 0) for word in sentence])
    since = time.process_time()
    image = train_image_network(regions[:N_PICTURES], labels[:N_PICTURES])
    grouped = ids.reshape(-1, CAPTIONS_PER_PICTURE, LONGEST)
    sentence_network = train_sentence_network(grouped[:N_SCENES], len(words))
    seconds = time.process_time() - since
    weights = rounded(image, regions[:2000], sentence_network, ids[:5000])
    weights[WORDS] = np.frombuffer("\n".join(words).encode(), np.uint8).copy()
    save_file(weights, out)
    encoders = encoders_of(load_file(out))
    facts = {
        "pictures": {"train": N_PICTURES, "held out": N_HELD_OUT, "seed": PICTURES.seed},
        "sentences": {"train": N_SCENES * CAPTIONS_PER_PICTURE, "held out": N_HELD_OUT * CAPTIONS_PER_PICTURE}
        | {"seed": SENTENCES.seed, "words": len(words)},
        "training_seed": TRAINING_SEED,
        "training_cpu_seconds": round(seconds, 1),
        **measured(image, sentence_network, encoders, (steps, regions, labels), (texts, ids)),
        "bytes": out.stat().st_size,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "environment": describe_environment(choose_device("cpu")),
    }
    log.write_text(json.dumps(facts, indent=1, default=str) + "\n")
    click.echo(json.dumps({key: facts[key] for key in facts if key != "environment"}, indent=1))


@torch.no_grad()
def measured(
    image: ImageNetwork,
    sentence: SentenceNetwork,
    encoders: tuple[ImageEncoder, SentenceEncoder],
    pictures: tuple[NDArray[np.int8], Tensor, Tensor],
    sentences: tuple[list[str], Tensor],
) -> dict[str, object]:
    """Return what both networks know of held-out pictures and sentences, in whole numbers and in floating point."""
    steps, regions, labels = (part[N_PICTURES:] for part in pictures)
    texts, ids = (part[N_SCENES * CAPTIONS_PER_PICTURE :] for part in sentences)
    whole = encoders[0](steps), encoders[1](texts)
    unit = limit_of(image.activations(regions)[-1]) / ACTIVATION_LIMIT
    return {
        "named": named(image, torch.from_numpy(whole[0]).float() * unit, labels),
        "named_in_floating_point": named(image, image.activations(regions)[-1], labels),
        "recognised": recognised(whole[1].astype(np.float32)),
        "recognised_in_floating_point": recognised(sentence.activations(ids)[-1].numpy()),
        "mean_activation": [float(part.mean()) for part in whole],
        "root_mean_square": [float(np.sqrt((part.astype(np.float32) ** 2).mean())) for part in whole],
        "clipped": [float((part == ACTIVATION_LIMIT).mean()) for part in whole],
        "dead": [int((part.max(0) == 0).sum()) for part in whole],
    }


if __name__ == "__main__":
    main()
