"""What it costs that methods see pairs under numbers of their own: batches with and without the renumbering.

python benchmarks/numbering.py [--images N]: both sides take turns in one process, on the same pairs. Features are in
memory (`scenes`), or in a .npy file of N images with 36 regions of 2,048 numbers, which is deleted afterwards.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from ncbench.data.dataset import Captions, ImageFeatures
from ncbench.data.registry import load_dataset
from ncbench.data.training_view import TrainingView
from ncbench.training.numbering import Numbering

BATCH, CAPTIONS_EACH, TURNS = 128, 5, 15


def seconds(view: TrainingView, pairs: np.ndarray) -> float:
    """Return the CPU seconds of a batch, over all `pairs`."""
    parts = np.array_split(pairs, len(pairs) // BATCH)
    since = time.process_time()
    for part in parts:
        view.batch(part)
    return (time.process_time() - since) / len(parts)


def compare(images: ImageFeatures, captions: Captions, claimed: np.ndarray) -> dict[str, float]:
    """Return milliseconds of a batch with the numbers of the dataset and with others, and of making the view."""
    n, n_images = len(captions), len(images)
    since = time.process_time()
    numbering = Numbering.draw(n, n_images, 0)
    view = numbering.view(images, captions, claimed, torch.device("cpu"))
    made = time.process_time() - since
    plain = TrainingView(images, captions, claimed, torch.device("cpu"))
    pairs = np.random.default_rng(1).permutation(n)[: 40 * BATCH]
    times = []
    for turn in range(TURNS + 1):
        sides = [(plain, pairs), (view, numbering._new_captions[pairs])]  # the same captions and images
        found = [seconds(*side) for side in (sides if turn % 2 else sides[::-1])]
        times.append(found if turn % 2 else found[::-1])
    before, after = (1000 * statistics.median(side) for side in zip(*times[1:], strict=True))
    ratio = statistics.median(after / before for before, after in times[1:])
    return {"plain_ms": before, "renumbered_ms": after, "ratio": ratio, "making_the_view_ms": 1000 * made}


def main() -> None:
    """Print the numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    count = parser.parse_args().images
    torch.set_num_threads(1)
    train = load_dataset("scenes", None).splits["train"]
    found = {"scenes, in memory": compare(train.images, train.captions, train.true)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        mapped = np.lib.format.open_memmap(path, "w+", np.float32, (count, 36, 2048))
        mapped[:] = 1
        mapped.flush()
        rng = np.random.default_rng(0)
        captions = Captions([""] * count * CAPTIONS_EACH, [rng.integers(4, 9999, 12) for _ in range(count * 5)])
        images = ImageFeatures([np.load(path, mmap_mode="r")])
        found["36 x 2048, from a file"] = compare(images, captions, np.repeat(np.arange(count), CAPTIONS_EACH))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
