"""The scores of the test split, and the files of a record from which they can be recomputed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ncbench.data.fitting import fitting_pairs
from ncbench.evaluation.fitting import rank_fitting
from ncbench.evaluation.retrieval import Ranks, Similarities, rank
from ncbench.evaluation.ties import warn_of_ties
from ncbench.evaluation.top_k import retrieve
from ncbench.records.arrays import (
    FITTING_FILE,
    RANKS_FILE,
    TOP_K_FILE,
    save_fitting,
    save_ranks,
    save_retrieved,
)
from ncbench.records.result import Fitting, Metrics, Scores

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset


def save_scores(folder: Path, similarities: Similarities, dataset: Dataset, method: str) -> Metrics:
    """Return the scores of `similarities` (images, captions) on test, after writing ranks and retrieved items.

    Where it is known which captions fit which images, they include the scores for all that fits.

    Warns of many ties, naming the `method`. Raises ArgumentError as `rank`, and OSError.
    """
    true = dataset.splits["test"].true
    whole = rank(similarities, true)
    warn_of_ties(similarities, true, f"{method} on {dataset.name}, test")
    folded = rank(similarities, true, dataset.folds) if dataset.folds > 1 else None
    save_ranks(folder / RANKS_FILE, whole, folded)
    save_retrieved(folder / TOP_K_FILE, retrieve(similarities, true))
    scores, fitting = Scores.of(whole.retrieval()), _fitting(folder, similarities, whole, dataset)
    return Metrics(scores, None, fitting) if folded is None else Metrics(Scores.of(folded.retrieval()), scores, fitting)


def _fitting(folder: Path, similarities: Similarities, whole: Ranks, dataset: Dataset) -> Fitting | None:
    """Return how well all that fits is retrieved, after writing its ranks; None if it is not known what fits."""
    pairs = fitting_pairs(dataset, "test")
    if pairs is None:
        return None
    ranks = rank_fitting(similarities, pairs.captions, pairs.images)
    save_fitting(folder / FITTING_FILE, ranks)
    return Fitting.of(len(pairs), ranks.retrieval(whole, dataset.splits["test"].true))
