"""How well `ncbench clean` finds mismatched pairs that were made by noise protocols.

Usage: python benchmarks/cleaning.py [--dataset scenes] [--dataset hf:PATH?image-features=COL&captions=COL] [...]

Every training pair of a dataset is judged, from its image features and words. `cosine` needs vectors of one space. As a
stand-in for a pretrained dual encoder, images are mapped into the space of captions by a linear map that was learned on
dev and test, which are not judged. Precision and recall are those of as many pairs as the estimated ratio says; time is
that of one process, for 10,000 pairs. cleanlab's `find_label_issues` needs class labels, which pairs do not have, so
it is not compared.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from ncbench.cleaning.content import caption_rows, image_rows
from ncbench.cleaning.findings import Opinion, Scored, judge, score
from ncbench.cleaning.pairs import ArrayRows, Pairs, unit
from ncbench.cleaning.scorers.cosine import Cosine
from ncbench.cleaning.scoring import Training, dataset_of, run_scorers
from ncbench.data.dataset import Dataset
from ncbench.data.registry import load_dataset
from ncbench.evaluation.beliefs import detect
from ncbench.noise.registry import draw_noise
from ncbench.runtime.seeds import derive_seed

PROTOCOLS = ("shuffle-captions", "shuffle-images", "semantic", "partial", "concentrated")
COLUMNS = (
    "dataset",
    "protocol",
    "ratio",
    "scorer",
    "auc",
    "estimate",
    "interval",
    "precision",
    "recall",
    "ece",
    "seconds",
)


def judged_rows(
    dataset: Dataset, protocol: str, ratio: float, scorers: Sequence[str], training: Training, seed: int
) -> list[dict[str, Any]]:
    """Return a row of results for each scorer, for `cosine`, for all together, and for random order."""
    split = dataset.splits["train"]
    noise = draw_noise(protocol, ratio, split, derive_seed(seed, "noise"))
    clean, texts = noise.clean(split.true), noise.seen(split.captions, dataset.vocabulary).texts
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        pairs = Pairs(
            image_rows(split.images, folder),
            caption_rows(texts, folder),
            noise.claimed,
            seed=derive_seed(seed, "folds"),
        )
        seconds = {"preparing": time.perf_counter() - began}
        scored: dict[str, Scored] = {}
        for scorer in scorers:
            began = time.perf_counter()
            found, _ = run_scorers(pairs, [scorer], lambda: dataset_of(pairs, split.images, texts, None), training)
            scored |= found
            seconds[scorer] = time.perf_counter() - began
        findings = judge(pairs, scored)
        opinions: dict[str, Opinion] = {**findings.each, "together": findings.together}
        seconds["together"] = sum(seconds.values())
        (folder / "held out").mkdir()
        one_space = aligned(dataset, texts, noise.claimed, folder / "held out")
        opinions["cosine"] = judge(one_space, {"cosine": score(one_space, Cosine(one_space))}).together
    facts = {"dataset": dataset.name, "protocol": protocol, "ratio": round(float(np.mean(~clean)), 3)}
    rows = [
        facts | {"scorer": name} | facts_of(opinion, clean, seconds.get(name)) for name, opinion in opinions.items()
    ]
    return [*rows, facts | {"scorer": "random", "auc": 0.5, "precision": facts["ratio"], "recall": facts["ratio"]}]


def aligned(dataset: Dataset, texts: Sequence[str], claimed: Any, folder: Path) -> Pairs:
    """Return the pairs with vectors of one space: captions, and images mapped to them as on dev and test."""
    held_out = [dataset.splits["dev"], dataset.splits["test"]]
    known = [text for split in held_out for text in split.captions.texts]
    captions = caption_rows([*texts, *known], folder)
    train = dataset.splits["train"].images
    images = [part.take(np.arange(len(part))) for part in (train, *(split.images for split in held_out))]
    pooled = np.concatenate([np.concatenate([part.mean(1), part.max(1)], axis=1) for part in images])
    pooled = (pooled - pooled.mean(0)) / (pooled.std(0) + 1e-6)
    first, rows = len(train), []
    for split in held_out:
        rows.append(first + split.true)
        first += len(split.images)
    x, y = pooled[np.concatenate(rows)], captions.take(np.arange(len(texts), len(texts) + len(known)))
    mean = y.mean(0)
    maps = np.linalg.solve(x.T @ x + 0.1 * len(x) * np.eye(x.shape[1]), x.T @ (y - mean))
    mapped = np.asarray(pooled[: len(train)] @ maps, np.float32)
    return Pairs(ArrayRows(unit(mapped)), ArrayRows(captions.take(np.arange(len(texts))) - mean), claimed)


def facts_of(opinion: Opinion, clean: Any, seconds: float | None) -> dict[str, Any]:
    """Return how well an opinion fits the ground truth `clean` (pairs,) bool."""
    ordered = np.lexsort((opinion.scores, -opinion.p_mismatched))
    dropped = ordered[: round(opinion.ratio.estimate * len(clean))]
    wrong = ~clean
    found = detect(1 - opinion.p_mismatched, clean)
    hits = int(wrong[dropped].sum())
    return {
        "auc": found.auc,
        "estimate": round(opinion.ratio.estimate, 3),
        "interval": f"{opinion.ratio.low:.3f} to {opinion.ratio.high:.3f}",
        "precision": hits / len(dropped) if len(dropped) else None,
        "recall": hits / int(wrong.sum()) if wrong.any() else None,
        "ece": found.calibration_error,
        "seconds": None if seconds is None else seconds * 10_000 / len(clean),
    }


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the results as a table."""

    def cell(value: Any) -> str:
        return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [f"| {' | '.join(COLUMNS)} |", f"| {' | '.join(['---'] * len(COLUMNS))} |"]
    return "\n".join([*lines, *(f"| {' | '.join(cell(row.get(name)) for name in COLUMNS)} |" for row in rows)])


@click.command()
@click.option("--dataset", "datasets", multiple=True, default=["scenes"], show_default=True)
@click.option("--protocol", "protocols", multiple=True, default=PROTOCOLS, show_default=True)
@click.option("--ratio", "ratios", multiple=True, type=float, default=[0.2, 0.4], show_default=True)
@click.option("--scorer", "scorers", multiple=True, default=["linear", "neighbours", "l2rm"], show_default=True)
@click.option("--epochs", default=8.0, show_default=True)
@click.option("--seed", "seeds", multiple=True, type=int, default=[0], show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), help="Also write the rows to this file.")
def main(
    datasets: Sequence[str],
    protocols: Sequence[str],
    ratios: Sequence[float],
    scorers: Sequence[str],
    epochs: float,
    seeds: Sequence[int],
    path: Path | None,
) -> None:
    """Print a table of all combinations."""
    rows: list[dict[str, Any]] = []
    for name in datasets:
        dataset = load_dataset(name, None)
        for protocol in protocols:
            for ratio in ratios:
                for seed in seeds:
                    rows += judged_rows(dataset, protocol, ratio, scorers, Training(epochs=epochs), seed)
                    click.echo(f"{name} {protocol} {ratio:g} seed {seed} done", err=True)
                    if path is not None:  # after each, as all may take hours
                        path.write_text(json.dumps(rows, indent=1) + "\n")
    click.echo(as_markdown(rows))


if __name__ == "__main__":
    main()
