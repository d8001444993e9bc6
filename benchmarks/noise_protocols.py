"""Measure what noise protocols do to a training set whose content is known.

Usage: python benchmarks/noise_protocols.py [--dataset scenes] [--ratio 0.4] [--seed 0]

Prints for each protocol: the share of mismatched pairs, the share of images that keep at least one of their captions,
and how close in meaning the claimed images of mismatched captions with unchanged words are, according to the scene
graphs. For reference, it also prints the closeness of true pairs, and of the ten other images that are closest in
meaning (means over the first 200 captions).
"""

from __future__ import annotations

import click
import numpy as np

from ncbench import UserError
from ncbench.data.dataset import Semantics, Split
from ncbench.data.registry import load_dataset
from ncbench.noise.drawing import draw
from ncbench.noise.registry import load_protocol, protocol_names
from ncbench.noise.semantic import N_NEAREST

FIRST = 200


def nearest_by_meaning(train: Split, semantics: Semantics) -> float:
    """Return the mean closeness of captions to the N_NEAREST images that fit best, without their own."""
    images = np.arange(len(train.images))
    best = []
    for caption in range(min(FIRST, len(train.true))):
        close = semantics.closeness("train", np.full(len(images), caption), images)
        best.append(np.sort(close[images != train.true[caption]])[-N_NEAREST:].mean())
    return float(np.mean(best))


@click.command()
@click.option("--dataset", "name", default="scenes", show_default=True)
@click.option("--ratio", default=0.4, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(name: str, ratio: float, seed: int) -> None:
    """Draw the noise and print the table."""
    dataset = load_dataset(name, None)
    train, semantics = dataset.splits["train"], dataset.semantics
    if semantics is None:
        raise click.ClickException(f"the meaning of images is not known for {name}; use scenes.")
    captions = np.arange(len(train.true))
    click.echo("| protocol | mismatched | images that keep a caption | closeness of mismatched pairs |")
    click.echo("| --- | ---: | ---: | ---: |")
    for protocol in protocol_names():
        recipe = load_protocol(protocol)
        if recipe.reads_file or not recipe.makes_noise:
            continue
        noise = draw(dataset, protocol, ratio, seed)
        wrong = np.flatnonzero(noise.changes(train.true) == "image")  # captions of other words have no scene graph
        close = f"{semantics.closeness('train', wrong, noise.claimed[wrong]).mean():.2f}" if len(wrong) else "not known"
        row = (protocol, f"{noise.mismatch(train.true):.3f}", f"{noise.survival(train.true):.3f}", close)
        click.echo(f"| {' | '.join(row)} |")
    own = semantics.closeness("train", captions, train.true).mean()
    click.echo(f"\nCloseness of true pairs: {own:.2f}. Of the {N_NEAREST} images closest by meaning: ", nl=False)
    click.echo(f"{nearest_by_meaning(train, semantics):.2f}.")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from error
