"""Heat maps of transport plans: where the mass of a batch goes, and how much of it to true matches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector
from ncbench.errors import UserError
from ncbench.method.base import Plan
from ncbench.records.arrays import BELIEFS_FILE
from ncbench.records.record import Record
from ncbench.report.figures.style import COLOURS, GREY, save, style
from ncbench.report.tables.comparisons import Comparison

CAPTION = (
    "The transport plan of one batch at the end of training, for the lowest seed. Columns are captions that the method "
    "believes mismatched, rows are the images that it may rematch them to; darker means more mass. Circles mark true "
    "matches, sorted onto the diagonal: orange ones are for the method to find; grey ones are claimed by the training "
    "set anyway, and a method may exclude them. The title compares the mass on orange circles with an even spread, "
    "which puts the same mass on every cell."
)
MAX_COLUMNS = 3


@dataclass(frozen=True)
class RecordedPlan:
    """The plan of a run, the true images (n,) of its captions, and whether the claimed image is the true one (n,)."""

    variant: str
    noise: str
    plan: Plan
    true: IntVector
    claimed: NDArray[np.bool_]

    @property
    def matches(self) -> NDArray[np.bool_]:
        """Cells of the plan that are true matches, (images, captions) bool."""
        found: NDArray[np.bool_] = self.plan.images[:, None] == self.true
        return found

    @property
    def unclaimed(self) -> NDArray[np.bool_]:
        """True matches that the training set does not claim, (images, captions) bool."""
        return self.matches & ~self.claimed

    @property
    def mass_on_unclaimed(self) -> float:
        """Share of the mass on `unclaimed` cells; NaN for an empty plan."""
        total = self.plan.mass.sum()
        return float(self.plan.mass[self.unclaimed].sum() / total) if total > 0 else float("nan")

    @property
    def title(self) -> str:
        """The title of the heat map."""
        mismatched, found = int((~self.claimed).sum()), int(self.unclaimed.any(0).sum())
        return (
            f"{self.variant}, {self.noise}\n"
            f"{mismatched} of {len(self.true)} captions mismatched, {found} with their image in reach:\n"
            f"{self.mass_on_unclaimed:.1%} of the mass is on these (even spread: {self.unclaimed.mean():.1%})"
        )


def collect_plans(tables: Sequence[Comparison]) -> list[RecordedPlan]:
    """Return one plan per table and variant, that of the lowest seed that has one, in the order of `tables`.

    Raises UserError for damaged beliefs.
    """
    found = []
    for table in tables:
        for variant, runs in table.runs.sort_values("seed").groupby("variant", sort=True):
            for folder in runs["folder"]:
                beliefs = Record(Path(folder)).beliefs
                if beliefs is None or beliefs.plan is None or beliefs.true_images is None or beliefs.clean is None:
                    continue
                if beliefs.plan.captions.max(initial=-1) >= len(beliefs.clean):
                    path = Path(folder) / BELIEFS_FILE
                    raise UserError(f"{path}: its plan has pairs that do not exist; restore it")
                claimed = beliefs.clean[beliefs.plan.captions]
                found.append(RecordedPlan(str(variant), table.noise, beliefs.plan, beliefs.true_images, claimed))
                break
    return found


def draw_plans(plans: Sequence[RecordedPlan], stem: Path) -> list[Path]:
    """Draw a heat map per plan. Return the files: SVG, PNG."""
    from matplotlib.figure import Figure

    columns = min(len(plans), MAX_COLUMNS)
    rows = -(-len(plans) // columns)
    with style():
        figure = Figure(figsize=(4.6 * columns, 4.9 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for panel, plan in zip(grid.flat, plans, strict=False):
            _draw_plan(panel, plan)
        for panel in grid.flat[len(plans) :]:
            panel.set_visible(False)
        return save(figure, stem)


def _draw_plan(panel: Any, seen: RecordedPlan) -> None:
    from matplotlib.colors import PowerNorm

    mass = seen.plan.mass
    order = image_order(seen)
    # A few cells hold most of the mass; the square root makes the others visible.
    panel.imshow(mass[order], cmap="Greys", norm=PowerNorm(0.5, 0, mass.max() or 1), interpolation="none")
    for cells, colour in ((seen.unclaimed, COLOURS[1]), (seen.matches & seen.claimed, GREY)):
        rows, columns = np.nonzero(cells[order])
        panel.scatter(columns, rows, s=28, facecolors="none", edgecolors=colour, linewidths=1.2)
    panel.set_title(seen.title, fontsize=9)
    panel.set_xlabel("captions of the batch")
    panel.set_ylabel("candidate images")
    panel.set_xticks([])
    panel.set_yticks([])


def image_order(seen: RecordedPlan) -> IntVector:
    """Return the rows of a plan ordered by the caption they match; rows without a match come last."""
    matches = seen.matches
    first = np.where(matches.any(1), matches.argmax(1), matches.shape[1])
    order: IntVector = np.argsort(first, kind="stable")
    return order
