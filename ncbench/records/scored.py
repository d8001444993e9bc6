"""The scores of the test split, and the files of a record from which they can be recomputed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ncbench.evaluation.retrieval import Similarities, rank
from ncbench.evaluation.ties import warn_of_ties
from ncbench.evaluation.top_k import retrieve
from ncbench.records.arrays import RANKS_FILE, TOP_K_FILE, save_ranks, save_retrieved
from ncbench.records.result import Metrics, Scores

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset


def save_scores(folder: Path, similarities: Similarities, dataset: Dataset, method: str) -> Metrics:
    """Return the scores of `similarities` (images, captions) on test, after writing ranks and retrieved items.

    Warns of many ties, naming the `method`. Raises ArgumentError as `rank`, and OSError.
    """
    true = dataset.splits["test"].true
    whole = rank(similarities, true)
    warn_of_ties(similarities, true, f"{method} on {dataset.name}, test")
    folded = rank(similarities, true, dataset.folds) if dataset.folds > 1 else None
    save_ranks(folder / RANKS_FILE, whole, folded)
    save_retrieved(folder / TOP_K_FILE, retrieve(similarities, true))
    scores = Scores.of(whole.retrieval())
    return Metrics(scores) if folded is None else Metrics(Scores.of(folded.retrieval()), scores)
