"""How well `ncbench clean` finds mismatched pairs that were made by noise protocols.

Usage: python benchmarks/cleaning.py [--dataset scenes] [--dataset hf:PATH?image-features=COL&captions=COL] [...]

Every training pair of a dataset is judged, from its image features and words. `cosine` needs vectors of one space. As a
stand-in for a pretrained dual encoder, images are mapped into the space of captions by a linear map that was learned on
dev and test, which are not judged. Precision and recall are those of as many pairs as the estimated ratio says, or as
cleanlab drops; time is CPU time for 10,000 pairs.

cleanlab's `find_label_issues` (if it is installed) needs classes, which pairs do not have. So images are clustered, the
cluster of its image is the label of a caption, and a logistic regression of the other folds says how likely each label
is. That leaves out what tells the images of a cluster apart.

With `--json`, results are added to a file after each measurement, and what the file has is not measured again.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np

from ncbench.cleaning.content import caption_rows, image_rows
from ncbench.cleaning.findings import Opinion, Scored, judge, names_in_words, score
from ncbench.cleaning.pairs import ArrayRows, Pairs, unit
from ncbench.cleaning.scorers.cosine import Cosine
from ncbench.cleaning.scoring import Training, dataset_of, run_scorers
from ncbench.data.dataset import Dataset
from ncbench.data.registry import load_dataset
from ncbench.evaluation.beliefs import detect
from ncbench.noise.registry import draw_noise
from ncbench.runtime.seeds import derive_seed

PROTOCOLS = ("shuffle-captions", "shuffle-images", "semantic", "partial", "concentrated", "harvested")
CLUSTERS = 10
"""Of images, the labels for cleanlab: of 5, 10, 20 and 50 what served it best on photos."""

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
        began = time.process_time()
        pairs = Pairs(
            image_rows(split.images, folder),
            caption_rows(texts, folder),
            noise.claimed,
            seed=derive_seed(seed, "folds"),
        )
        seconds = {"preparing": time.process_time() - began}
        scored: dict[str, Scored] = {}
        for scorer in scorers:
            began = time.process_time()
            found, _ = run_scorers(pairs, [scorer], lambda: dataset_of(pairs, split.images, texts, None), training)
            scored |= found
            seconds[scorer] = time.process_time() - began
        findings = judge(pairs, scored)
        opinions: dict[str, Opinion] = dict(findings.each)
        if len(scorers) > 1:
            opinions[names_in_words([*scored])] = findings.together
            seconds[names_in_words([*scored])] = sum(seconds.values())
        (folder / "held out").mkdir()
        one_space = aligned(dataset, texts, noise.claimed, folder / "held out")
        began = time.process_time()
        opinions["cosine"] = judge(one_space, {"cosine": score(one_space, Cosine(one_space))}).together
        seconds["cosine"] = time.process_time() - began
        labelled = [with_cleanlab(pairs, clean)] if find_spec("cleanlab") else []
    facts = {"dataset": dataset.name, "protocol": protocol, "ratio": round(float(np.mean(~clean)), 3)}
    rows = [
        facts | {"scorer": name} | facts_of(opinion, clean, seconds.get(name), noise.changes(split.true))
        for name, opinion in opinions.items()
    ]
    return [
        *rows,
        *(facts | each for each in labelled),
        facts | {"scorer": "random", "auc": 0.5, "precision": facts["ratio"], "recall": facts["ratio"]},
    ]


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


def with_cleanlab(pairs: Pairs, clean: Any) -> dict[str, Any]:
    """Return what cleanlab finds if the label of a caption is the cluster of its image."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.cluster import KMeans
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.preprocessing import StandardScaler

    began, numbers = time.process_time(), np.arange(len(pairs))
    shown = pairs.images.take(np.arange(len(pairs.images)))
    clusters = min(CLUSTERS, len(shown) // 10)
    labels = KMeans(clusters, n_init=1, random_state=0).fit_predict(shown)[pairs.claimed]
    known = StandardScaler().fit_transform(pairs.captions.take(numbers))
    likely = cross_val_predict(
        LogisticRegression(C=0.01, max_iter=200), known, labels, cv=PredefinedSplit(pairs.folds), method="predict_proba"
    )
    dropped, wrong = find_label_issues(labels, likely, n_jobs=1), ~clean
    hits = int((dropped & wrong).sum())
    return {
        "scorer": "cleanlab",
        "auc": detect(get_label_quality_scores(labels, likely), clean).auc,
        "estimate": round(float(dropped.mean()), 3),
        "precision": hits / int(dropped.sum()) if dropped.any() else None,
        "recall": hits / int(wrong.sum()),
        "seconds": (time.process_time() - began) * 10_000 / len(clean),
    }


def facts_of(opinion: Opinion, clean: Any, seconds: float | None, changes: Any = ()) -> dict[str, Any]:
    """Return how well an opinion fits the ground truth `clean` (pairs,) bool.

    If noise made several `changes` (pairs,), the result says how well pairs with each are told from clean ones.
    """
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
    } | ({"auc_by_change": _auc_by_change(opinion, clean, changes)} if len({*changes}) > 2 else {})


def _auc_by_change(opinion: Opinion, clean: Any, changes: Any) -> dict[str, float]:
    found = {}
    for change in sorted({*changes} - {""}):
        some = clean | (changes == change)
        found[str(change)] = detect(1 - opinion.p_mismatched[some], clean[some]).auc
    return found


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
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path is not None and path.exists() else []
    for name in datasets:
        dataset = load_dataset(name, None)
        for protocol, ratio, seed in product(protocols, ratios, seeds):
            cell = {"dataset": dataset.name, "asked": [protocol, ratio, seed, *scorers]}
            if not any(cell.items() <= row.items() for row in rows):
                found = judged_rows(dataset, protocol, ratio, scorers, Training(epochs=epochs), seed)
                rows += [cell | row for row in found]
                click.echo(f"{name} {protocol} {ratio:g} seed {seed} done", err=True)
                if path is not None:
                    path.write_text(json.dumps(rows, indent=1) + "\n")
    click.echo(as_markdown(rows))


if __name__ == "__main__":
    main()
