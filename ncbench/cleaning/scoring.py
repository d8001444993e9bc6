"""Which scorers judge which pairs, and running them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ncbench.cleaning.findings import Scored, score
from ncbench.cleaning.pairs import Pairs
from ncbench.cleaning.scorers.base import Scorer, VectorScorer
from ncbench.cleaning.scorers.cosine import Cosine
from ncbench.cleaning.scorers.cross_fitting import CPU, CrossFitted, check_method_can_clean
from ncbench.cleaning.scorers.linear import Linear
from ncbench.cleaning.scorers.neighbours import Neighbours
from ncbench.data.dataset import Captions, CaptionVectors, Dataset, ImageFeatures, Split
from ncbench.data.precomp import BATCH_SIZE, SCALE
from ncbench.data.token_cache import token_ids
from ncbench.data.tokenise import Tokeniser
from ncbench.data.vocabulary import Vocabulary
from ncbench.errors import UserError, unknown_name
from ncbench.method.registry import method_names
from ncbench.plugins.source_files import is_path

VECTOR_SCORERS: dict[str, type[VectorScorer]] = {"cosine": Cosine, "linear": Linear, "neighbours": Neighbours}
DEFAULT_METHOD = "l2rm"
MAX_PAIRS_FOR_METHOD = 20_000
"""With more pairs, no network is trained unless a method is named."""

MIN_WORD_COUNT = 2
SMALL, LARGE = "scenes", "f30k"

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Training:
    """How a method is trained: its backbone, and how many baseline epochs of the pairs of a fold."""

    backbone: str = "vse"
    epochs: float = 8.0
    device: torch.device = CPU


def default_scorers(pairs: Pairs, given: bool) -> tuple[str, ...]:
    """Return the names of the scorers that judge `pairs` unless others are named, the cheapest first.

    Vectors that were `given` on both sides may be of one space.
    """
    one_space = ("cosine",) if given and pairs.images.dim == pairs.captions.dim else ()
    method = (DEFAULT_METHOD,) if len(pairs) <= MAX_PAIRS_FOR_METHOD and DEFAULT_METHOD in method_names() else ()
    return (*one_space, "linear", "neighbours", *method)


def check_scorers(names: Sequence[str], training: Training, has_vectors: bool = False) -> None:
    """Raise UserError unless all `names` are scorers or methods that can be one."""
    if not names:
        raise UserError("no scorers; name at least one of cosine, linear, neighbours and the methods")
    for name in names:
        if name in VECTOR_SCORERS:
            continue
        if not is_path(name) and name not in method_names():
            raise unknown_name("scorer", name, {*VECTOR_SCORERS, *method_names()})
        check_method_can_clean(name, training.backbone, 10**6, has_vectors)


def run_scorers(
    pairs: Pairs,
    names: Sequence[str],
    dataset: Callable[[], Dataset],
    training: Training,
    on_progress: Progress = lambda *_: None,
) -> tuple[dict[str, Scored], dict[str, VectorScorer]]:
    """Return the scores of each of the scorers `names`, and the scorers that compare vectors.

    `dataset` returns the pairs as methods see them. Raises UserError, for `cosine` of vectors of different dimensions
    and as scorers do.
    """
    scored: dict[str, Scored] = {}
    vector_scorers: dict[str, VectorScorer] = {}
    for name in dict.fromkeys(names):
        if name == "cosine" and pairs.images.dim != pairs.captions.dim:
            raise UserError(
                f"cosine needs vectors of one space, but images have {pairs.images.dim} dimensions and captions "
                f"{pairs.captions.dim}; leave it out of --scorers"
            )

        def report(share: float, name: str = name) -> None:
            on_progress(name, share)

        scorer: Scorer
        if name in VECTOR_SCORERS:
            scorer = vector_scorers[name] = VECTOR_SCORERS[name](pairs)
        else:
            scorer = CrossFitted(pairs, dataset(), name, training.backbone, training.epochs, training.device, report)
        scored[scorer.name] = score(pairs, scorer, report if name in VECTOR_SCORERS else lambda _: None)
    return scored, vector_scorers


def dataset_of(pairs: Pairs, features: ImageFeatures, texts: Sequence[str] | None, vectors: Any) -> Dataset:
    """Return the pairs as a dataset with all of them in `train`: captions are words, or `vectors` (pairs, T) if given.

    With fewer than 20,000 pairs, sizes of networks and settings of methods are those for `scenes`, otherwise those for
    `f30k`, as for imported datasets.
    """
    from ncbench.data.scenes import source as scenes  # loads SciPy and Pillow

    if vectors is not None:
        captions: Captions = CaptionVectors(texts or [""] * len(pairs), vectors)
        vocabulary = Vocabulary.build([], 1)
    else:
        assert texts is not None
        tokeniser = Tokeniser()
        counts = Counter(word for text in texts for word in tokeniser(text))
        vocabulary = Vocabulary.of_counts(counts, MIN_WORD_COUNT)
        tokens, lengths = token_ids(list(texts), vocabulary, tokeniser)
        captions = Captions.of_arrays(texts, tokens.astype(np.int64), lengths.astype(np.int64))
    small = len(pairs) < MAX_PAIRS_FOR_METHOD
    return Dataset(
        name="clean",
        version="1",
        vocabulary=vocabulary,
        splits={"train": Split(features, captions, pairs.claimed)},
        digest="",
        scale=dict(scenes.SCALE if small else SCALE),
        batch_size=scenes.BATCH_SIZE if small else BATCH_SIZE,
        truth_known=False,
        like=SMALL if small else LARGE,
    )


def best_vector_scorer(found: dict[str, VectorScorer], separations: dict[str, float]) -> VectorScorer | None:
    """Return the scorer of vectors that tells given pairs from random ones best, or None without any."""
    return found[max(found, key=lambda name: separations[name])] if found else None


def as_texts(texts: Any) -> list[str] | None:
    """Return `texts` if they are strings, else None."""
    if isinstance(texts, str):
        raise UserError("texts is one string; expected one for each pair")
    if getattr(texts, "ndim", 1) != 1 or not len(texts):
        return None
    listed = [text for text in texts if isinstance(text, str)]
    return [str(text) for text in listed] if len(listed) == len(texts) else None
