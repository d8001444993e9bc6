"""Examples for the eye: what was retrieved for test queries, and what mismatched captions were rematched to.

Which they are is drawn by chance, the same for all runs on a dataset: none is picked.
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
from ncbench.records.audit import NONE, Audit
from ncbench.records.record import Record
from ncbench.report.figures.style import COLOURS, save, style
from ncbench.report.tables.comparisons import Comparison
from ncbench.runtime.seeds import derive_rng

CAPTION_QUERIES, IMAGE_QUERIES, REMATCHED = 4, 2, 6
RIGHT, OTHER = COLOURS[2], COLOURS[7]
DPI = 80  # pictures of noise are large
MARKS = {True: "✓", False: "✗"}

RETRIEVED_CAPTION = (
    "Test queries drawn by chance, and the five best of what the network found for them, from the left: pictures for "
    "captions, captions for pictures. What is right has a thick green frame and a tick."
)
REMATCHED_CAPTION = (
    "Training captions drawn by chance among those that the method rematched; the picture that the training set claims "
    "for them, and the one that the method believes in instead. What truly matches has a thick green frame and a tick."
)


@dataclass(frozen=True)
class Chosen:
    """The run that examples are of: its variant, its folder, and the noise that it was under."""

    variant: str
    folder: Path
    noise: str

    @property
    def title(self) -> str:
        """Which run it is, in words."""
        return f"{self.variant}, {self.noise}"


def middle_tables(tables: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparison at the middle noise ratio, the lower of two, of every protocol and other condition."""
    groups: dict[tuple[object, ...], list[Comparison]] = {}
    for table in tables:
        if table.key["noise"]:
            axes = tuple(value for axis, value in table.key.items() if axis != "noise")
            groups.setdefault(axes, []).append(table)
    ordered = (sorted(group, key=lambda table: float(table.key["noise"])) for group in groups.values())
    return [group[(len(group) - 1) // 2] for group in ordered]


def best_retrieving(table: Comparison) -> Chosen | None:
    """Return the run of the best contestant, and the lowest seed, whose record says what was retrieved."""
    return next(_runs_with(table, TOP_K_FILE), None)


def best_rematching(table: Comparison) -> Chosen | None:
    """Return the run of the best contestant, and the lowest seed, that rematched pairs. Raises UserError."""
    for run in _runs_with(table, BELIEFS_FILE):
        beliefs = Record(run.folder).beliefs
        if beliefs is None or beliefs.p_clean is None:
            continue
        if beliefs.rematches is not None and beliefs.rematches.weights.any():
            return run
    return None


def _runs_with(table: Comparison, name: str) -> Iterator[Chosen]:
    """Yield the runs of contestants that hold the file `name`, best first, then by seed."""
    for variant in table.rows.loc[~table.rows["sees_truth"], "variant"]:
        runs = table.runs[table.runs["variant"] == variant].sort_values("seed")
        for folder in map(Path, runs["folder"]):
            if (folder / name).is_file():
                yield Chosen(str(variant), folder, table.noise)


def draw_retrieved(found: Retrieved, dataset: Dataset, title: str, stem: Path) -> list[Path]:
    """Draw what was `found` for captions and for images of the test split of `dataset`; return the files: SVG, PNG.

    Raises ValueError where it is not of this split, or the dataset has no pictures.
    """
    from matplotlib.figure import Figure

    test, pictures = dataset.splits["test"], _pictures(dataset)
    if (len(found.i2t), len(found.t2i)) != (len(test.images), len(test.captions)):
        raise ValueError(f"what was retrieved is not of the test split of {dataset.name}")
    captions = _drawn(dataset, "captions", len(test.captions), CAPTION_QUERIES)
    images = _drawn(dataset, "images", len(test.images), IMAGE_QUERIES)
    depth = found.t2i.shape[1]
    with style():
        figure = Figure(figsize=(3.2 + 1.5 * depth, 1.7 * (len(captions) + len(images)) + 0.5), layout="constrained")
        grid = figure.add_gridspec(len(captions) + len(images), depth + 2)
        for row, caption in enumerate(captions):
            _write(figure.add_subplot(grid[row, :2]), [test.captions.texts[caption]])
            for column, (image, right) in enumerate(zip(found.t2i[caption], found.t2i_right[caption], strict=True)):
                panel = figure.add_subplot(grid[row, column + 2])
                _show(panel, pictures.picture("test", int(image)), bool(right), MARKS[bool(right)])
        for row, image in enumerate(images, len(captions)):
            _show(figure.add_subplot(grid[row, :2]), pictures.picture("test", int(image)), None, "")
            texts = [
                f"{MARKS[bool(right)]} {test.captions.texts[caption]}"
                for caption, right in zip(found.i2t[image], found.i2t_right[image], strict=True)
            ]
            _write(figure.add_subplot(grid[row, 2:]), texts, width=24 * depth, right=found.i2t_right[image])
        figure.suptitle(title)
        return save(figure, stem, DPI)


def draw_rematched(audit: Audit, title: str, stem: Path) -> list[Path]:
    """Draw captions of `audit` with the pictures claimed for them and rematched to them; return the files: SVG, PNG.

    Raises UserError where the truth is not known, ValueError where there are no pictures or no rematches.
    """
    from matplotlib.figure import Figure

    pictures, train = _pictures(audit.dataset), audit.dataset.splits["train"]
    proposed = np.flatnonzero(audit.rematched != NONE)
    if not len(proposed):
        raise ValueError("nothing was rematched")
    clean = audit.clean()
    shown = proposed[_drawn(audit.dataset, "rematched", len(proposed), REMATCHED)]
    with style():
        figure = Figure(figsize=(8, 1.9 * len(shown) + 0.5), layout="constrained")
        grid = figure.add_gridspec(len(shown), 4)
        for row, pair in enumerate(shown):
            _write(figure.add_subplot(grid[row, :2]), [audit.captions.texts[pair]])
            claimed, proposal = int(audit.noise.claimed[pair]), int(audit.rematched[pair])
            right = proposal == int(train.true[pair])
            told = f"rematched {MARKS[right]}" + ("" if right else _closer(audit, int(pair), claimed, proposal))
            _show(
                figure.add_subplot(grid[row, 2]),
                pictures.picture("train", claimed),
                bool(clean[pair]),
                f"claimed {MARKS[bool(clean[pair])]}",
            )
            _show(figure.add_subplot(grid[row, 3]), pictures.picture("train", proposal), right, told)
        figure.suptitle(title)
        return save(figure, stem, DPI)


def _closer(audit: Audit, pair: int, claimed: int, proposal: int) -> str:
    """Return how close a proposal is in meaning beside the claimed image, where the dataset knows."""
    if audit.dataset.semantics is None:
        return ""
    one, other = audit.dataset.semantics.closeness("train", np.array([pair, pair]), np.array([proposal, claimed]))
    return ", closer" if one > other else ", as close" if one == other else ", less close"


def _pictures(dataset: Dataset) -> Any:
    if dataset.pictures is None:
        raise ValueError(f"{dataset.name} has no pictures")
    return dataset.pictures


def _drawn(dataset: Dataset, what: str, count: int, wanted: int) -> IntVector:
    """Return up to `wanted` numbers below `count`, ascending, drawn by chance: the same for every run."""
    rng = derive_rng(0, "examples", dataset.name, what)
    drawn: IntVector = np.sort(rng.choice(count, min(wanted, count), replace=False))
    return drawn


def _show(panel: Any, picture: NDArray[np.uint8], right: bool | None, told: str) -> None:
    """Draw a picture, framed by whether it is right; None is a query."""
    panel.imshow(picture, interpolation="none")
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_xlabel(told, fontsize=9, color=RIGHT if right else "black")
    for spine in panel.spines.values():
        spine.set(color=RIGHT if right else OTHER, linewidth=4 if right else 0.8)


def _write(panel: Any, texts: Sequence[str], width: int = 28, right: Sequence[bool] | NDArray[np.bool_] = ()) -> None:
    """Write texts below one another; right ones are green."""
    panel.set_axis_off()
    for number, text in enumerate(texts):
        shown = "\n".join(textwrap.wrap(text, width, max_lines=5 if len(texts) == 1 else 1, placeholder=" …"))
        colour = RIGHT if len(right) and right[number] else "black"
        height = 1 - (number + 0.5) / len(texts)
        panel.text(0, height, shown, va="center", fontsize=9, color=colour, transform=panel.transAxes)
