"""Whether a method takes data of any shape: a last short batch, one caption per image, one region per image."""

from __future__ import annotations

from ncbench.checks.method.candidate import Candidate, Recorded
from ncbench.checks.shapes import SIZES, Shapes
from ncbench.checks.verdicts import Check

SMALLEST = 2  # pairs of the last batch: a single one has no negatives, and is left out

SHORT_BATCH_SET = Shapes(images={**SIZES, "train": SIZES["train"] + SMALLEST // 2})
ONE_CAPTION_SET = Shapes(images={**SIZES, "train": 2 * SIZES["train"] + 1}, captions_each=1, kinds=13)
ONE_REGION_SET = Shapes(regions=1)


def _trained_on(candidate: Candidate, shapes: Shapes) -> str:
    dataset = shapes.load()
    result = Recorded.of(candidate.run(dataset=dataset)).result
    train = dataset.splits["train"]
    return f"{result['work']['updates']} updates on {len(train.captions)} pairs of {len(train.images)} images"


AFTER = ("trains", "budget", "pair-scores")
SHORT_BATCH: Check[Candidate] = Check(
    "short-batch",
    f"takes a last batch that is shorter than the others, here {SMALLEST} pairs",
    "take sizes from the batch (len(batch)), never from the settings; or ask for batches(..., drop_last=True)",
    lambda candidate: _trained_on(candidate, SHORT_BATCH_SET),
    AFTER,
)
ONE_CAPTION: Check[Candidate] = Check(
    "one-caption",
    "takes images with one caption each, and an odd number of pairs",
    "do not rely on how many captions an image has: task.data.claimed says which image each pair claims",
    lambda candidate: _trained_on(candidate, ONE_CAPTION_SET),
    AFTER,
)
ONE_REGION: Check[Candidate] = Check(
    "one-region",
    "takes images of a single region (R = 1), as global features are",
    "take R from the shape of batch.images, (B, R, D), and expect 1",
    lambda candidate: _trained_on(candidate, ONE_REGION_SET),
    AFTER,
)
