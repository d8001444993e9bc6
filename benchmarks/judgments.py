"""Compare what runs on Flickr8k photos learned with human judgments of images and captions that are not a pair.

Usage: python benchmarks/judgments.py --runs DIR --photos FOLDER [--images unseen|train] [--json FILE]

FOLDER contains `{train,dev,test}.parquet` with the columns `image_id` and `captions`, from which the dataset of the
runs was made in this order, and `human_judgments.csv` with the columns `kind` (`crowd`: share of yes, number of yes and
of no; `expert`: scores from 1 to 4 by three people), `image_id`, `caption`, `own` (whether the caption was written for
this image) and `scores`. Pairs of an image with its own caption are left out: the question is which *other* captions
describe it, as in rematching.

For each method and noise, the script prints means over seeds for the selected networks, on the judged images of dev and
test or of train:

* expert: Kendall's tau-c of similarity and mean expert score (the usual statistic for these judgments);
* crowd: AUC of similarity for pairs to which at least half of the people said yes, against those to which nobody did;
* chosen: each caption with several judged images chooses the most similar one, as a rematch does; the mean human score
  of the choices, in [0, 1], where 0 is the score of a random image and 1 that of the best one;
* judged: how many of the method's rematches in training were judged by people;
* closer, by chance: the share of rematches whose image is closer to the caption than the claimed one, and the same for
  random images, as on `scenes`. Hardly any rematch was judged, so closeness is that of *wording*: the cosine of TF-IDF
  vectors of the caption and of all captions of the image. The first row says how well wording agrees with people, by
  the same measures.

The last line of each table is Kendall's tau between the mean rSum of methods and their agreement with people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau
from sklearn.feature_extraction.text import TfidfVectorizer

from ncbench import UserError, load_runs
from ncbench.data.dataset import Captions, Dataset, ImageFeatures, Split
from ncbench.data.tokenise import Tokeniser
from ncbench.evaluation.beliefs import detect, rematch_quality
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.records.networks import read_checkpoint
from ncbench.records.record import Record

SPLITS = ("train", "dev", "test")
DIGITS = {"rsum": 1, "expert": 3, "crowd": 3, "chosen": 3, "judged": 1, "closer": 3, "by chance": 3}
"""The columns, with their number of decimals."""
AGREEMENT = ("expert", "crowd", "chosen")
IMAGES = {"unseen": ("dev", "test"), "train": ("train",)}


class Wording:
    """Closeness of captions and images by the words that people use; `described` holds the captions per image."""

    def __init__(self, described: Sequence[Sequence[str]]) -> None:
        self._words = TfidfVectorizer().fit([text for texts in described for text in texts])
        self._images = self._words.transform([" ".join(texts) for texts in described])

    def of(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the closeness of images and `texts`, (images, texts), in [0, 1]."""
        found: NDArray[np.float64] = (self._images @ self._words.transform(texts).T).toarray()
        return found


@dataclass(frozen=True)
class Judgments:
    """Judged pairs that do not belong together: `rows` have kind, split, image, caption (number in `texts`) and score.

    `image` is its number in the split, `score` is in [0, 1], `wording` is the closeness of the two by `Wording`;
    `in_training` is the `Wording` of the training images.
    """

    rows: pd.DataFrame
    texts: list[str]
    in_training: Wording


def read_judgments(folder: Path) -> Judgments:
    """Return the judgments in `folder`. Raises UserError for missing or malformed files."""
    path = folder / "human_judgments.csv"
    try:
        rows = pd.read_csv(path)
        tables = {split: pd.read_parquet(folder / f"{split}.parquet") for split in SPLITS}
        places = {name: (split, n) for split, table in tables.items() for n, name in enumerate(table["image_id"])}
        wording = {split: Wording(list(table["captions"])) for split, table in tables.items()}
        rows = rows[(rows["own"] == 0) & rows["image_id"].isin(list(places))].copy()
        rows["split"] = [places[name][0] for name in rows["image_id"]]
        rows["image"] = [places[name][1] for name in rows["image_id"]]
        rows["score"] = [score_of(kind, text) for kind, text in zip(rows["kind"], rows["scores"], strict=True)]
        rows["caption"], texts = pd.factorize(rows["caption"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: no judgments can be read ({error}); give the folder of photos.") from error
    close = {split: words.of(list(texts)) for split, words in wording.items()}
    rows["wording"] = [close[row.split][row.image, row.caption] for row in rows.itertuples()]
    columns = ["kind", "split", "image", "caption", "score", "wording"]
    return Judgments(rows[columns].reset_index(drop=True), list(texts), wording["train"])


def score_of(kind: str, scores: str) -> float:
    """Return the human score of a pair, in [0, 1]: the share of yes, or the rescaled mean of scores from 1 to 4."""
    numbers = [float(number) for number in scores.split()]
    return numbers[0] if kind == "crowd" else (sum(numbers) / len(numbers) - 1) / 3


def similarities(folder: Path, dataset: Dataset, texts: list[str], splits: tuple[str, ...]) -> NDArray[np.float32]:
    """Return similarities (images of `splits`, concatenated; texts) by the selected networks of the run in `folder`."""
    vocabulary = dataset.vocabulary
    split_into_words = Tokeniser(vocabulary.abbreviations)
    captions = Captions(texts, [vocabulary.encode(split_into_words(text)) for text in texts])
    images = [dataset.splits[split].images for split in splits]
    features = np.concatenate([some.take(np.arange(len(some))) for some in images])
    networks = read_checkpoint(folder).build(dataset)
    part = Split(ImageFeatures([features]), captions, np.zeros(len(texts), np.int64))
    return similarity_matrix(networks, part, torch.device("cpu"))


def judge(rows: pd.DataFrame) -> dict[str, float]:
    """Return how well the column `similarity` of judged pairs agrees with people. NaN if undefined."""
    expert, crowd = (rows[rows["kind"] == kind] for kind in ("expert", "crowd"))
    tau = kendalltau(expert["similarity"], expert["score"], variant="c").statistic if len(expert) > 1 else np.nan
    told = crowd[(crowd["score"] >= 0.5) | (crowd["score"] == 0)]
    return {"expert": float(tau), "crowd": auc(told["similarity"], told["score"] > 0), "chosen": chosen(rows)}


def auc(values: pd.Series[float], right: pd.Series[bool]) -> float:
    """Return how often a right pair has a larger value than a wrong one; ties count half."""
    if right.nunique() < 2:
        return float("nan")
    # `detect` expects P(clean); any order-preserving map into [0, 1] has the same AUC.
    return float(detect(values.rank(method="average").to_numpy() / len(values), right.to_numpy()).auc or np.nan)


def chosen(rows: pd.DataFrame) -> float:
    """Return the mean score of each caption's most similar judged image, from random choice (0) to the best (1).

    Only judgments of the same kind are compared. Captions whose images all have the same score are left out.
    """
    got = blind = best = 0.0
    for _, group in rows.groupby(["kind", "caption"]):
        if group["score"].nunique() > 1:
            got += float(group.loc[group["similarity"].idxmax(), "score"])
            blind, best = blind + float(group["score"].mean()), best + float(group["score"].max())
    return (got - blind) / (best - blind) if best > blind else float("nan")


def rematched(folder: Path, dataset: Dataset, judgments: Judgments) -> dict[str, float | None]:
    """Return how many rematches of a run were judged by people, and how good all of them are by wording."""
    record, train = Record(folder), dataset.splits["train"]
    if record.beliefs is None or record.beliefs.rematches is None:
        return {"judged": None, "closer": None, "by chance": None}
    found = record.beliefs.rematches
    texts = train.captions.texts
    mine = judgments.rows[judgments.rows["split"] == "train"]
    said = {(judgments.texts[row.caption], row.image) for row in mine.itertuples()}
    pairs = {(texts[caption], int(image)) for caption, image in zip(found.captions, found.images, strict=True)}
    close = judgments.in_training.of(texts)
    quality = rematch_quality(
        found.captions, found.images, found.weights, record.noise.claimed, lambda c, i: close[i, c], len(train.images)
    )
    return {"judged": len(pairs & said), "closer": quality.closer, "by chance": quality.chance}


def judge_run(folder: Path, judgments: Judgments, splits: tuple[str, ...]) -> dict[str, float | None]:
    """Return how the run in `folder` agrees with human judgments. Raises UserError."""
    dataset = Record(folder).dataset(None)
    starts = dict(zip(splits, np.cumsum([0, *(len(dataset.splits[split].images) for split in splits)]), strict=False))
    rows = judgments.rows[judgments.rows["split"].isin(splits)].copy()
    matrix = similarities(folder, dataset, judgments.texts, splits)
    rows["similarity"] = matrix[rows["image"] + rows["split"].map(starts), rows["caption"]]
    return {**judge(rows), **rematched(folder, dataset, judgments)}


def as_markdown(table: pd.DataFrame) -> str:
    """Return means over seeds by noise and method, best `chosen` first, and whether their order is that of rSum."""
    lines = []
    for noise, part in table.groupby("noise"):
        numbers = part.astype(dict.fromkeys(DIGITS, float))
        means = numbers.groupby("method")[list(DIGITS)].mean().sort_values("chosen", ascending=False)
        lines += [f"**{noise:g}**", "", f"| method | {' | '.join(DIGITS)} |", "| --- |" + " ---: |" * len(DIGITS)]
        for name, values in zip(means.index, means.to_numpy(), strict=True):
            cells = (
                "-" if np.isnan(value) else f"{value:.{digits}f}"
                for value, digits in zip(values, DIGITS.values(), strict=True)
            )
            lines.append(f"| {name} | {' | '.join(cells)} |")
        fair = part[~part["sees_truth"]].groupby("method")[["rsum", *AGREEMENT]].mean()
        taus = ", ".join(f"{key} {kendalltau(fair['rsum'], fair[key]).statistic:.2f}" for key in AGREEMENT)
        lines += ["", f"Kendall's tau with rSum, over the methods that do not see ground truth: {taus}.", ""]
    return "\n".join(lines)


@click.command()
@click.option("--runs", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--photos", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--images", default="unseen", type=click.Choice(sorted(IMAGES)), show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path))
def main(runs: Path, photos: Path, images: str, out: Path | None) -> None:
    """Compare the runs and print the table."""
    torch.set_num_threads(1)
    judgments, frame = read_judgments(photos), load_runs(runs)
    splits = IMAGES[images]
    rows = judgments.rows[judgments.rows["split"].isin(splits)]
    by = ", ".join(f"{kind} {count:,}" for kind, count in rows["kind"].value_counts().items())
    by_wording = judge(rows.assign(similarity=rows["wording"]))
    wording = ", ".join(f"{key} {value:.3f}" for key, value in by_wording.items())
    click.echo(f"Images: {images}. Pairs judged by: {by}. Wording: {wording}.\n")
    facts: list[Mapping[str, Any]] = []
    for row in frame.itertuples():
        found = judge_run(Path(str(row.folder)), judgments, splits)
        known = {key: getattr(row, key) for key in ("method", "sees_truth", "noise", "seed", "rsum")}
        facts.append({**known, **found})
    click.echo(as_markdown(pd.DataFrame(facts)))
    if out is not None:
        plain = [{key: None if value != value else value for key, value in row.items()} for row in facts]  # no NaN
        out.write_text(json.dumps(plain, indent=1) + "\n")


if __name__ == "__main__":
    main()
