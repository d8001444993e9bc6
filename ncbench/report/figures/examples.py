"""Examples with pictures: what was retrieved for test queries, and what captions were rematched to.

Examples are sampled at random, the same ones for all runs on a dataset; none is picked by hand.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import Dataset, IntVector
from ncbench.evaluation.top_k import Retrieved
from ncbench.records.arrays import BELIEFS_FILE, TOP_K_FILE
from ncbench.records.audit import NO_REMATCH, Audit
from ncbench.records.record import Record
from ncbench.report.figures.looks import GREEN, GREY, INK
from ncbench.report.figures.style import save, style
from ncbench.report.tables.comparisons import Comparison
from ncbench.runtime.seeds import derive_rng

CAPTION_QUERIES, IMAGE_QUERIES, REMATCHED_PAIRS = 4, 2, 6  # examples in a figure
MATCH_COLOUR = GREEN
DPI = 80  # lower than in other figures: pictures make large files
MARKS = {True: "✓", False: "✗"}

RETRIEVED_CAPTION = (
    "Random test queries and their five best results, best first: images for captions, then captions for images. "
    "Correct results have a tick; correct images also a thick green frame."
)
REMATCHED_CAPTION = (
    "Random training captions that the method rematched, with the image that the training set claims and the one that "
    "the method chose instead. True matches have a tick and a thick green frame."
)


@dataclass(frozen=True)
class ExampleRun:
    """The run that examples are taken from: its variant, its folder and its noise."""

    variant: str
    folder: Path
    noise: str

    @property
    def title(self) -> str:
        """The run in words."""
        return f"{self.variant}, {self.noise}"


def middle_tables(tables: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparison at the middle noise ratio (the lower of two) for each protocol and other conditions."""
    groups: dict[tuple[object, ...], list[Comparison]] = {}
    for table in tables:
        if table.key["noise"]:
            axes = tuple(value for axis, value in table.key.items() if axis != "noise")
            groups.setdefault(axes, []).append(table)
    ordered = (sorted(group, key=lambda table: float(table.key["noise"])) for group in groups.values())
    return [group[(len(group) - 1) // 2] for group in ordered]


def best_retrieving(table: Comparison) -> ExampleRun | None:
    """Return the run of the best contestant, lowest seed first, whose record holds retrieved items."""
    return next(_runs_with(table, TOP_K_FILE), None)


def best_rematching(table: Comparison) -> ExampleRun | None:
    """Return the run of the best contestant, lowest seed first, that rematched pairs. Raises UserError."""
    for run in _runs_with(table, BELIEFS_FILE):
        beliefs = Record(run.folder).beliefs
        if beliefs is None or beliefs.p_clean is None:
            continue
        if beliefs.rematches is not None and beliefs.rematches.weights.any():
            return run
    return None


def _runs_with(table: Comparison, name: str) -> Iterator[ExampleRun]:
    """Yield the runs of contestants whose records hold the file `name`, best first, then by seed."""
    for variant in table.rows.loc[~table.rows["sees_truth"], "variant"]:
        runs = table.runs[table.runs["variant"] == variant].sort_values("seed")
        for folder in map(Path, runs["folder"]):
            if (folder / name).is_file():
                yield ExampleRun(str(variant), folder, table.noise)


def draw_retrieved(found: Retrieved, dataset: Dataset, title: str, stem: Path) -> list[Path]:
    """Draw what was retrieved for captions and images of the test split. Return the files: SVG, PNG.

    Raises ValueError if `found` is not of the test split of `dataset`, or if `dataset` has no pictures.
    """
    from matplotlib.figure import Figure

    test, pictures = dataset.splits["test"], _pictures(dataset)
    if (len(found.i2t), len(found.t2i)) != (len(test.images), len(test.captions)):
        raise ValueError(f"the retrieved items are not of the test split of {dataset.name}")
    captions = _sample(dataset, "captions", len(test.captions), CAPTION_QUERIES)
    images = _sample(dataset, "images", len(test.images), IMAGE_QUERIES)
    depth = found.t2i.shape[1]
    with style():
        figure = Figure(figsize=(3.2 + 1.5 * depth, 1.7 * (len(captions) + len(images)) + 0.5), layout="constrained")
        grid = figure.add_gridspec(len(captions) + len(images), depth + 2)
        for row, caption in enumerate(captions):
            _write_texts(figure.add_subplot(grid[row, :2]), [test.captions.texts[caption]])
            for column, (image, right) in enumerate(zip(found.t2i[caption], found.t2i_correct[caption], strict=True)):
                panel = figure.add_subplot(grid[row, column + 2])
                _show_picture(panel, pictures.picture("test", int(image)), bool(right), MARKS[bool(right)])
        for row, image in enumerate(images, len(captions)):
            _show_picture(figure.add_subplot(grid[row, :2]), pictures.picture("test", int(image)), None, "")
            texts = [
                f"{MARKS[bool(right)]} {test.captions.texts[caption]}"
                for caption, right in zip(found.i2t[image], found.i2t_correct[image], strict=True)
            ]
            _write_texts(figure.add_subplot(grid[row, 2:]), texts, width=24 * depth, right=found.i2t_correct[image])
        figure.suptitle(title)
        return save(figure, stem, DPI)


def draw_rematched(audit: Audit, title: str, stem: Path) -> list[Path]:
    """Draw captions with their claimed and their rematched images. Return the files: SVG, PNG.

    Raises UserError without ground truth, ValueError without pictures or without rematches.
    """
    from matplotlib.figure import Figure

    pictures, train = _pictures(audit.dataset), audit.dataset.splits["train"]
    proposed = np.flatnonzero(audit.rematched != NO_REMATCH)
    if not len(proposed):
        raise ValueError("the run rematched no pairs")
    clean = audit.clean()
    shown = proposed[_sample(audit.dataset, "rematched", len(proposed), REMATCHED_PAIRS)]
    with style():
        figure = Figure(figsize=(8, 1.9 * len(shown) + 0.5), layout="constrained")
        grid = figure.add_gridspec(len(shown), 4)
        for row, pair in enumerate(shown):
            _write_texts(figure.add_subplot(grid[row, :2]), [audit.captions.texts[pair]])
            claimed, proposal = int(audit.noise.claimed[pair]), int(audit.rematched[pair])
            right = proposal == int(train.true[pair])
            note = f"rematched {MARKS[right]}" + ("" if right else _closeness_note(audit, int(pair), claimed, proposal))
            _show_picture(
                figure.add_subplot(grid[row, 2]),
                pictures.picture("train", claimed),
                bool(clean[pair]),
                f"claimed {MARKS[bool(clean[pair])]}",
            )
            _show_picture(figure.add_subplot(grid[row, 3]), pictures.picture("train", proposal), right, note)
        figure.suptitle(title)
        return save(figure, stem, DPI)


def _closeness_note(audit: Audit, pair: int, claimed: int, proposal: int) -> str:
    """Return a note on whether the proposal is closer in meaning than the claimed image; empty if unknown.

    The meaning of captions whose words were changed is unknown.
    """
    if audit.dataset.semantics is None or audit.changes()[pair] not in ("", "image"):
        return ""
    one, other = audit.dataset.semantics.closeness("train", np.array([pair, pair]), np.array([proposal, claimed]))
    return ", closer" if one > other else ", as close" if one == other else ", less close"


def _pictures(dataset: Dataset) -> Any:
    if dataset.pictures is None:
        raise ValueError(f"{dataset.name} has no pictures")
    return dataset.pictures


def _sample(dataset: Dataset, what: str, count: int, wanted: int) -> IntVector:
    """Return up to `wanted` random numbers below `count`, ascending, the same for every run on a dataset."""
    rng = derive_rng(0, "examples", dataset.name, what)
    sample: IntVector = np.sort(rng.choice(count, min(wanted, count), replace=False))
    return sample


def _show_picture(panel: Any, picture: NDArray[np.uint8], right: bool | None, label: str) -> None:
    """Draw a picture with a frame that says whether it is right (None for a query), and a label below."""
    panel.imshow(picture, interpolation="none")
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_xlabel(label, fontsize=9, color=MATCH_COLOUR if right else INK)
    for spine in panel.spines.values():
        spine.set(color=MATCH_COLOUR if right else GREY, linewidth=4 if right else 0.8)


def _write_texts(
    panel: Any, texts: Sequence[str], width: int = 28, right: Sequence[bool] | NDArray[np.bool_] = ()
) -> None:
    """Write texts below each other, right ones in green."""
    panel.set_axis_off()
    for number, text in enumerate(texts):
        shown = "\n".join(textwrap.wrap(text, width, max_lines=5 if len(texts) == 1 else 1, placeholder=" …"))
        colour = MATCH_COLOUR if len(right) and right[number] else INK
        height = 1 - (number + 0.5) / len(texts)
        panel.text(0, height, shown, va="center", fontsize=9, color=colour, transform=panel.transAxes)
