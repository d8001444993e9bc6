"""Transport plans as heat maps: where the mass of a batch goes, and how much of it to true matches."""

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
from ncbench.report.figures.style import COLOURS, save, style
from ncbench.report.tables.comparisons import Comparison

CAPTION = (
    "The transport plan of one batch at the end of training, of the lowest seed: a column is a caption that the method "
    "believes mismatched, a row an image that it may be rematched to; darker is more mass. Circles are true matches, "
    "sorted onto the diagonal: orange ones are to be found, grey ones are what the training set claims anyway, which a "
    "method may forbid. Even spread is what the share of the orange ones would be if all cells had the same mass."
)


@dataclass(frozen=True)
class SeenPlan:
    """The plan of a run, with the true images (n,) of its captions, and which of these are claimed, (n,) bool."""

    variant: str
    noise: str
    plan: Plan
    true: IntVector
    claimed: NDArray[np.bool_]

    @property
    def matches(self) -> NDArray[np.bool_]:
        """Which cells of the plan are true matches, (images, captions)."""
        found: NDArray[np.bool_] = self.plan.images[:, None] == self.true
        return found

    @property
    def hidden(self) -> NDArray[np.bool_]:
        """Which of the true matches are there to be found, not claimed, (images, captions)."""
        return self.matches & ~self.claimed

    @property
    def on_hidden(self) -> float:
        """Share of the mass on true matches that are not claimed; NaN where nothing moves."""
        total = self.plan.mass.sum()
        return float(self.plan.mass[self.hidden].sum() / total) if total > 0 else float("nan")

    @property
    def title(self) -> str:
        """What the heat map shows, in words."""
        wrong, there = int((~self.claimed).sum()), int(self.hidden.any(0).sum())
        return (
            f"{self.variant}, {self.noise}\n"
            f"{wrong} of {len(self.true)} captions are mismatched, {there} have their image here:\n"
            f"{self.on_hidden:.1%} of the mass is on these (even spread {self.hidden.mean():.1%})"
        )


def plans_of(tables: Sequence[Comparison]) -> list[SeenPlan]:
    """Return the plan of every variant that has one under every noise, of its lowest seed, in the order of `tables`.

    Raises UserError for beliefs that are damaged.
    """
    found = []
    for table in tables:
        for variant, runs in table.runs.sort_values("seed").groupby("variant", sort=True):
            for folder in runs["folder"]:
                beliefs = Record(Path(folder)).beliefs
                if beliefs is None or beliefs.plan is None or beliefs.true_images is None or beliefs.clean is None:
                    continue
                if beliefs.plan.captions.max(initial=-1) >= len(beliefs.clean):
                    raise UserError(
                        f"{Path(folder) / BELIEFS_FILE}: its plan names pairs that are not there; restore it."
                    )
                claimed = beliefs.clean[beliefs.plan.captions]
                found.append(SeenPlan(str(variant), table.noise, beliefs.plan, beliefs.true_images, claimed))
                break
    return found


def draw_plans(plans: Sequence[SeenPlan], stem: Path) -> list[Path]:
    """Draw a heat map of every plan and return the files: SVG, PNG."""
    from matplotlib.figure import Figure

    columns = min(len(plans), 3)
    rows = -(-len(plans) // columns)
    with style():
        figure = Figure(figsize=(4.6 * columns, 4.9 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for panel, plan in zip(grid.flat, plans, strict=False):
            _draw_plan(panel, plan)
        for panel in grid.flat[len(plans) :]:
            panel.set_visible(False)
        return save(figure, stem)


def _draw_plan(panel: Any, seen: SeenPlan) -> None:
    from matplotlib.colors import PowerNorm

    mass = seen.plan.mass
    order = sorted_images(seen)
    # Few cells hold most of the mass: its square root lets the others be seen.
    panel.imshow(mass[order], cmap="Greys", norm=PowerNorm(0.5, 0, mass.max() or 1), interpolation="none")
    for cells, colour in ((seen.hidden, COLOURS[1]), (seen.matches & seen.claimed, COLOURS[7])):
        rows, columns = np.nonzero(cells[order])
        panel.scatter(columns, rows, s=28, facecolors="none", edgecolors=colour, linewidths=1.2)
    panel.set_title(seen.title, fontsize=9)
    panel.set_xlabel("captions of the batch")
    panel.set_ylabel("images to be rematched to")
    panel.set_xticks([])
    panel.set_yticks([])


def sorted_images(seen: SeenPlan) -> IntVector:
    """Return the rows of a plan in the order of the captions that they are true matches of, the others after them."""
    matches = seen.matches
    first = np.where(matches.any(1), matches.argmax(1), matches.shape[1])
    order: IntVector = np.argsort(first, kind="stable")
    return order
