"""Whether a method handles data of any shape: a short last batch, one caption per image, one region per image."""

from __future__ import annotations

from ncbench.checks.method.candidate import Candidate, Recorded
from ncbench.checks.shapes import SIZES, Shapes
from ncbench.checks.verdicts import Check

LAST_BATCH = 2  # pairs; a single one has no negatives, and is left out

SHORT_BATCH_SET = Shapes(images={**SIZES, "train": SIZES["train"] + LAST_BATCH // 2})
ONE_CAPTION_SET = Shapes(images={**SIZES, "train": 2 * SIZES["train"] + 1}, captions_each=1, kinds=13)
ONE_REGION_SET = Shapes(regions=1)


def _trained_on(candidate: Candidate, shapes: Shapes) -> str:
    dataset = shapes.load()
    result = Recorded.of(candidate.run(dataset=dataset)).result
    train = dataset.splits["train"]
    return f"{result['work']['updates']} updates on {len(train.captions)} pairs of {len(train.images)} images"


PREREQUISITES = ("trains", "budget", "pair-scores")
SHORT_BATCH: Check[Candidate] = Check(
    "short-batch",
    f"handles a last batch that is shorter than the others, here {LAST_BATCH} pairs",
    "take sizes from the batch (len(batch)), not from the settings; or use batches(..., drop_last=True)",
    lambda candidate: _trained_on(candidate, SHORT_BATCH_SET),
    PREREQUISITES,
)
ONE_CAPTION: Check[Candidate] = Check(
    "one-caption",
    "handles images with one caption each, and an odd number of pairs",
    "do not assume a number of captions per image: task.data.claimed says which image each pair claims",
    lambda candidate: _trained_on(candidate, ONE_CAPTION_SET),
    PREREQUISITES,
)
ONE_REGION: Check[Candidate] = Check(
    "one-region",
    "handles images of a single region (R = 1), such as global features",
    "take R from the shape of batch.images, (B, R, D); it may be 1",
    lambda candidate: _trained_on(candidate, ONE_REGION_SET),
    PREREQUISITES,
)
