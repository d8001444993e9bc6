"""The scores of the test split, and the files of a record from which they can be recomputed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ncbench.data.fitting import fitting_pairs
from ncbench.evaluation.blocks import Scored
from ncbench.evaluation.outcome import outcome_of
from ncbench.evaluation.ties import warn_if_tied
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


def save_scores(folder: Path, similarities: Scored, dataset: Dataset, method: str) -> Metrics:
    """Return the scores of `similarities` on test, a matrix or blocks, after writing ranks and retrieved items.

    Where it is known which captions fit which images, they include the scores for all that fits.

    Warns of many ties, naming the `method`. Raises ArgumentError as `rank`, and OSError.
    """
    true = dataset.splits["test"].true
    found = outcome_of(similarities, true, dataset.folds, fitting_pairs(dataset, "test"))
    warn_if_tied(found.tied, len(true), f"{method} on {dataset.name}, test")
    save_ranks(folder / RANKS_FILE, found.whole, found.folded)
    save_retrieved(folder / TOP_K_FILE, found.retrieved)
    scores, fitting = Scores.of(found.whole.retrieval()), None
    if found.fitting is not None:
        save_fitting(folder / FITTING_FILE, found.fitting)
        fitting = Fitting.of(len(found.fitting.captions), found.fitting.retrieval(found.whole, true))
    if found.folded is None:
        return Metrics(scores, None, fitting)
    return Metrics(Scores.of(found.folded.retrieval()), scores, fitting)
