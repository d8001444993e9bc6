"""Train the network that computes the features of `scenes`, and say how well it names what it sees.

Usage: python benchmarks/scenes_detector.py [--out detector.safetensors] [--json benchmarks/scenes_detector.json]

The network names the category, colour, texture and size of the object in a region, or the kind and tint of the
background. It is trained on regions of pictures of a seed that no split uses, in floating point on one thread, then
rounded to whole numbers. It is imperfect on purpose: a detector errs. The file it writes is part of ncbench, so that a
data set never depends on training; training again elsewhere gives a similar network, not the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
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

from ncbench.data.scenes.boxes import Box, propose
from ncbench.data.scenes.descriptor import DIM, describe
from ncbench.data.scenes.detector import (
    ACTIVATION_LIMIT,
    CONVOLUTIONS,
    CROP_CHANNELS,
    CROP_SIDE,
    HEADS,
    HIDDEN,
    UNITS,
    WEIGHTS,
    Detector,
    crop,
)
from ncbench.data.scenes.draws import Draws
from ncbench.data.scenes.graph import (
    BACKGROUND_KINDS,
    CATEGORIES,
    COLOURS,
    SIZES,
    SPAN,
    TEXTURES,
    TINTS,
    Scene,
    sample_scene,
)
from ncbench.data.scenes.planes import Planes
from ncbench.data.scenes.render import SIDE, render, sample_light
from ncbench.runtime.device import choose_device
from ncbench.runtime.environment import describe as describe_environment

PICTURES = {"train": 3_000, "held out": 600}
PICTURE_SEED = 1  # the splits use 0
TRAINING_SEED = 0
EPOCHS = 12
BATCH_SIZE = 128
LEARNING_RATE = 2e-3
CLASSES = {
    "category": len(CATEGORIES) + len(BACKGROUND_KINDS) + 1,  # or neither
    "colour": len(COLOURS) + len(TINTS) + 1,
    "texture": len(TEXTURES),
    "size": len(SIZES),
}
NEITHER = {"category": CLASSES["category"] - 1, "colour": CLASSES["colour"] - 1}
NOT_ASKED = -100
CHANNELS = (16, 32, 64)
HIDDEN_SIZE = 128


@dataclass(frozen=True)
class Labelled:
    """Regions and what each shows, (n,) int64 per head; NOT_ASKED where a head has no answer."""

    crops: NDArray[np.uint8]
    descriptors: NDArray[np.int8]
    labels: dict[str, NDArray[np.int64]]


def label(scene: Scene, boxes: list[Box]) -> list[tuple[int, int, int, int]]:
    """Return category, colour, texture and size of what each box shows: the background, an object, or neither.

    A box shows an object if its centre lies within half a radius of the object's and its size is not off by half.
    """
    ground = (len(CATEGORIES) + scene.background, len(COLOURS) + scene.tint, NOT_ASKED, NOT_ASKED)
    found = []
    for number, box in enumerate(boxes):
        if number == 1:
            found.append(ground)
            continue
        x, y = ((box.left + box.right) * SPAN // (2 * SIDE), (box.top + box.bottom) * SPAN // (2 * SIDE))
        extent = max(box.right - box.left, box.bottom - box.top) * SPAN // (2 * SIDE)
        near = [
            (((one.x - x) ** 2 + (one.y - y) ** 2) / one.radius**2, place)
            for place, one in enumerate(scene.objects)
            if 0.5 * one.radius < extent < 1.5 * one.radius
        ]
        distance, place = min(near, default=(9.0, -1))
        if distance > 0.25:
            found.append((NEITHER["category"], NEITHER["colour"], NOT_ASKED, NOT_ASKED))
        else:
            one = scene.objects[place]
            found.append((one.category, one.colour, one.texture, one.size))
    return found


def look_at(part: str, start: int, end: int) -> list[tuple[NDArray[np.uint8], NDArray[np.int8], Any]]:
    """Return the regions and labels of some pictures."""
    found = []
    for number in range(start, end):
        draws = Draws.named(PICTURE_SEED, "scenes detector", part, number)
        scene = sample_scene(draws)
        planes = Planes.of(render(scene, sample_light(draws), draws))
        boxes = propose(planes)
        seen = np.stack([crop(planes, box) for box in boxes]), np.stack([describe(planes, box) for box in boxes])
        found.append((*seen, np.array(label(scene, boxes))))
    return found


def draw(part: str, jobs: int) -> Labelled:
    """Return the regions of a part of the pictures."""
    starts = range(0, PICTURES[part], 100)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        blocks = pool.map(partial(look_at, part), starts, [start + 100 for start in starts])
        crops, descriptors, labels = map(np.concatenate, zip(*(one for block in blocks for one in block), strict=True))
    return Labelled(crops, descriptors, dict(zip(HEADS, labels.T.astype(np.int64), strict=True)))


class Network(nn.Module):
    """The network in floating point, with inputs and activations in units of ACTIVATION_LIMIT."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (CROP_CHANNELS, *CHANNELS)
        self.convolutions = nn.ModuleList(nn.Conv2d(*pair, 3, padding=1) for pair in pairwise(sizes))
        flat = CHANNELS[-1] * (CROP_SIDE // 8) ** 2
        widths = (flat + DIM, HIDDEN_SIZE, UNITS)
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.heads = nn.ModuleDict({head: nn.Linear(UNITS, CLASSES[head]) for head in HEADS})
        self.drop = nn.Dropout(0.1)

    def activations(self, crops: Tensor, descriptors: Tensor) -> dict[str, Tensor]:
        """Return the activations of every layer but the heads, from crops (n, side, side, channels)."""
        seen, found = crops.permute(0, 3, 1, 2), {}
        for name, layer in zip(CONVOLUTIONS, self.convolutions, strict=True):
            found[name] = layer(seen).relu()
            seen = functional.max_pool2d(found[name], 2)
        joined = torch.cat([seen.permute(0, 2, 3, 1).flatten(1), descriptors], dim=1)
        for name, layer in zip(HIDDEN, self.hidden, strict=True):
            joined = found[name] = layer(self.drop(joined) if name == HIDDEN[1] else joined).relu()
        return found

    def forward(self, crops: Tensor, descriptors: Tensor) -> dict[str, Tensor]:
        """Return the scores of every head."""
        units = self.activations(crops, descriptors)[HIDDEN[-1]]
        return {head: layer(units) for head, layer in self.heads.items()}


def as_tensors(data: Labelled) -> tuple[Tensor, Tensor]:
    """Return crops in 0..1 and descriptors in the same unit."""
    return tuple(torch.from_numpy(part).float() / ACTIVATION_LIMIT for part in (data.crops, data.descriptors))


def train(data: Labelled) -> Network:
    """Return a network trained on `data`."""
    torch.manual_seed(TRAINING_SEED)
    torch.set_num_threads(1)
    network = Network()
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-2)
    crops, descriptors = as_tensors(data)
    labels = {head: torch.from_numpy(values) for head, values in data.labels.items()}
    steps = EPOCHS * -(-len(crops) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2 * LEARNING_RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        for batch in torch.randperm(len(crops)).split(BATCH_SIZE):
            scores = network(crops[batch], descriptors[batch])
            losses = [functional.cross_entropy(scores[head], labels[head][batch]) for head in HEADS]
            optimiser.zero_grad()
            torch.stack(losses).sum().backward()
            optimiser.step()
            schedule.step()
        click.echo(f"epoch {epoch + 1}: loss {float(torch.stack(losses).sum().detach()):.3f}")
    return network.eval()


@torch.no_grad()
def rounded(network: Network, data: Labelled) -> dict[str, NDArray[Any]]:
    """Return the weights in whole numbers; `data` says how large activations are.

    An activation of 1 is 127 divided by a layer's range.
    """
    crops, descriptors = as_tensors(data)
    limits = {name: limit_of(values) for name, values in network.activations(crops[:2000], descriptors[:2000]).items()}
    found: dict[str, NDArray[Any]] = {}

    def keep(name: str, weight: Tensor, bias: Tensor, unit_in: Tensor, unit_out: float) -> None:
        found.update(rounded_layer(name, weight, bias, unit_in, unit_out))

    unit = 1 / ACTIVATION_LIMIT
    for name, layer in zip(CONVOLUTIONS, network.convolutions, strict=True):
        weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)
        keep(name, weight, layer.bias, torch.full((len(weight),), unit), limits[name] / ACTIVATION_LIMIT)
        unit = limits[name] / ACTIVATION_LIMIT
    flat = network.hidden[0].in_features - DIM
    units = torch.cat([torch.full((flat,), unit), torch.full((DIM,), 1 / ACTIVATION_LIMIT)])
    for name, layer in zip(HIDDEN, network.hidden, strict=True):
        keep(name, layer.weight.T, layer.bias, units, limits[name] / ACTIVATION_LIMIT)
        units = torch.full((layer.out_features,), limits[name] / ACTIVATION_LIMIT)
    for head, layer in network.heads.items():
        # Heads have no activation: any unit of their outputs gives the same order.
        keep(head, layer.weight.T, layer.bias, units, float(abs(layer.weight).max()))
    return found


def accuracies(names: dict[str, NDArray[np.int64]], data: Labelled) -> dict[str, float]:
    """Return the share of right names per head, of objects, and of backgrounds' kinds and tints."""
    objects = data.labels["category"] < len(CATEGORIES)
    grounds = ~objects & (data.labels["category"] != NEITHER["category"])
    right = {head: names[head] == data.labels[head] for head in HEADS}
    found = {head: float(right[head][objects].mean()) for head in HEADS}
    return {
        **found,
        "background": float(right["category"][grounds].mean()),
        "tint": float(right["colour"][grounds].mean()),
    }


@click.command()
@click.option("--jobs", default=2, show_default=True, help="Processes that draw pictures.")
@click.option("--out", default=WEIGHTS, show_default=True, type=click.Path(path_type=Path))
@click.option("--json", "log", default=Path(__file__).with_suffix(".json"), type=click.Path(path_type=Path))
def main(jobs: int, out: Path, log: Path) -> None:
    """Draw, train, round, measure and write."""
    since = time.perf_counter()
    data = {part: draw(part, jobs) for part in PICTURES}
    click.echo(
        f"{len(data['train'].crops)} regions of {PICTURES['train']} pictures ({time.perf_counter() - since:.0f} s)"
    )
    since = time.process_time()
    network = train(data["train"])
    seconds = time.process_time() - since
    weights = rounded(network, data["train"])
    held_out = data["held out"]
    save_file(weights, out)
    detector = Detector.of(load_file(out))
    with torch.no_grad():
        floating = {head: scores.argmax(1).numpy() for head, scores in network(*as_tensors(held_out)).items()}
    units = detector.units(held_out.crops, held_out.descriptors)
    facts = {
        "pictures": PICTURES,
        "picture_seed": PICTURE_SEED,
        "training_seed": TRAINING_SEED,
        "epochs": EPOCHS,
        "training_cpu_seconds": round(seconds, 1),
        "held_out_accuracy": accuracies(detector.names(units), held_out),
        "held_out_accuracy_in_floating_point": accuracies(floating, held_out),
        "largest_sums": {name: layer.largest_sum() for name, layer in detector.layers.items()},
        "mean_activation": float(units.mean()),
        "clipped": float((units == ACTIVATION_LIMIT).mean()),
        "bytes": out.stat().st_size,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "environment": describe_environment(choose_device("cpu")),
    }
    log.write_text(json.dumps(facts, indent=1, default=str) + "\n")
    click.echo(json.dumps({key: facts[key] for key in facts if key != "environment"}, indent=1))


if __name__ == "__main__":
    main()
