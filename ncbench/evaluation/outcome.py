"""What is kept of the similarities of a split, whether they are a matrix or blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncbench.data.dataset import IntVector
from ncbench.data.fitting import FittingPairs
from ncbench.evaluation.blocked import (
    AtLeast,
    Best,
    FittingAtLeast,
    Pairs,
    Receiver,
    Ties,
    cut,
    own_pairs,
    pick,
    rank_blocks,
)
from ncbench.evaluation.blocks import Blocks, Scored
from ncbench.evaluation.fitting import FittingRanks, check_pairs, rank_fitting
from ncbench.evaluation.retrieval import Ranks, Retrieval, rank
from ncbench.evaluation.ties import tied_captions
from ncbench.evaluation.top_k import DEFAULT_DEPTH, Retrieved, retrieve


def retrieval_of(scored: Scored, true: IntVector) -> Retrieval:
    """Return the retrieval metrics of a matrix, or of blocks. Raises ArgumentError as `rank`."""
    ranks = rank_blocks(scored, true) if isinstance(scored, Blocks) else rank(scored, true)
    return ranks.retrieval()


@dataclass(frozen=True)
class Outcome:
    """What records keep of the similarities of a split.

    `whole` are the ranks within the split, `folded` those within its folds, None if there is one. `tied` is the number
    of captions that tie with another image. `fitting` is None if it is not known what fits.
    """

    whole: Ranks
    folded: Ranks | None
    tied: int
    retrieved: Retrieved
    fitting: FittingRanks | None


def outcome_of(
    scored: Scored,
    true: IntVector,
    folds: int = 1,
    fitting: FittingPairs | None = None,
    depth: int = DEFAULT_DEPTH,
) -> Outcome:
    """Return all that records keep of a matrix, or of blocks, which are read twice. Raises ArgumentError as `rank`.

    `depth` is the number of items that are retrieved for each query, which may be 0.
    """
    if isinstance(scored, Blocks):
        return _outcome_of_blocks(scored, true, folds, fitting, depth)
    return Outcome(
        rank(scored, true),
        rank(scored, true, folds) if folds > 1 else None,
        tied_captions(scored, true),
        retrieve(scored, true, depth) if depth else Best(scored.shape, true, 0).retrieved(),
        None if fitting is None else rank_fitting(scored, fitting.captions, fitting.images),
    )


def _outcome_of_blocks(
    blocks: Blocks, true: IntVector, folds: int, fitting: FittingPairs | None, depth: int
) -> Outcome:
    pairs = [own_pairs(blocks, true, folds)]
    if fitting is not None:
        check_pairs(fitting.captions, fitting.images, blocks.shape)
        pairs.append(Pairs.of(fitting.captions, fitting.images, blocks.shape))
    own, *others = pick(blocks, *pairs)
    whole, ties = AtLeast(blocks.shape, true, own), Ties(own)
    folded = AtLeast(blocks.shape, true, own, folds) if folds > 1 else None
    fits = [FittingAtLeast(pairs[1], others[0])] if others else []
    best = Best(blocks.shape, true, depth)
    counts: list[Receiver] = [whole, ties, *([best] if depth else []), *fits, *([] if folded is None else [folded])]
    for block in blocks:
        for part in cut(block):
            for count in counts:
                count.add(part)
    return Outcome(
        whole.ranks(),
        None if folded is None else folded.ranks(),
        int(np.count_nonzero(ties.equal > 1)),
        best.retrieved(),
        fits[0].ranks() if fits else None,
    )
