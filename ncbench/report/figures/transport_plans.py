"""Where the mass of transport plans goes during training: to true partners, to closer images, or to others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ncbench.noise.ratio import noise_in_words
from ncbench.records.record import Record
from ncbench.report.figures.looks import BLUE, FAINT, GREEN, INK
from ncbench.report.figures.style import line_names, save, style, tidy

COLUMNS = ("id", "evaluation", "work", "true", "closer", "even")
MAX_COLUMNS = 4
TRUE, CLOSER, NO_CLOSER, UNKNOWN = "true partner", "closer than claimed", "not closer", "not the true partner"
CAPTION = (
    "Where the transport plan of a batch of captions that the method believes mismatched puts its mass, at each dev "
    "evaluation, mean over seeds: on the image that truly belongs to the caption; on another image that is closer in "
    "meaning to it than the claimed one, which still helps; or on one that is not. The dashed line is what an even "
    "spread over the plan would put on true partners: where it is at zero, hardly any is in reach."
)


def load_plan_shares(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per dev evaluation with a transport plan of the `runs` (of `load_runs`).

    `work` is in FLOPs, `true`, `closer` (NaN where meanings are unknown) and `even` are shares of the mass. For an
    ensemble, the plans are those of its first member. Raises UserError for a damaged history.
    """
    rows = [row for name, folder in zip(runs["id"], runs["folder"], strict=True) for row in _rows(name, Path(folder))]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(name: str, folder: Path) -> Iterator[tuple[object, ...]]:
    history = Record(folder).history
    for number, line in enumerate(line for line in history if line.backbone == history[0].backbone):
        if line.plan is not None:
            closer = float("nan") if line.plan.closer is None else line.plan.closer
            yield name, number, line.work, line.plan.true, closer, line.plan.even


def draw_plans(runs: pd.DataFrame, shares: pd.DataFrame, stem: Path) -> list[Path]:
    """Draw `shares` (of `load_plan_shares`), one panel per variant and noise. Return the files: SVG, PNG."""
    from matplotlib.figure import Figure

    named = runs.assign(line=line_names(runs), epoch=runs["flops"] / runs["used"])
    rows = named.drop(columns="dev_rsum").merge(shares, on="id")
    rows["spent"] = rows["work"] / rows["epoch"]
    panels = list(rows.groupby(["line", "protocol", "noise"], sort=True))
    columns = min(len(panels), MAX_COLUMNS)
    height = -(-len(panels) // columns)
    with style():
        figure = Figure(figsize=(max(5.0, 0.5 + 2.3 * columns), 0.8 + 2.0 * height), layout="constrained")
        grid = figure.subplots(height, columns, sharex=True, sharey=True, squeeze=False)
        handles: dict[str, Any] = {}
        for place, panel in enumerate(grid.flat):
            if place >= len(panels):
                panel.set_visible(False)
                continue
            (line, protocol, noise), part = panels[place]
            handles |= _draw_panel(panel, part)
            panel.set_title(f"{line}, {noise_in_words(str(protocol), float(str(noise)))}", fontsize=9)
            if place + columns >= len(panels):
                panel.tick_params(labelbottom=True)
        figure.supxlabel("training work (baseline epochs)", fontsize=10)
        figure.supylabel("share of the mass", fontsize=10)
        order = [name for name in (TRUE, CLOSER, NO_CLOSER, UNKNOWN, "even spread") if name in handles]
        figure.legend(
            [handles[name] for name in order], order, loc="outside upper center", ncols=len(order), frameon=False
        )
        return save(figure, stem)


def _draw_panel(panel: Any, part: pd.DataFrame) -> dict[str, Any]:
    """Stack the mean shares of a panel; return the handles of its legend."""
    means = part.groupby("evaluation", sort=True)[["spent", "true", "closer", "even"]].mean()
    known = bool(means["closer"].notna().all())
    layers = {TRUE: means["true"], **({CLOSER: means["closer"]} if known else {})}
    layers[NO_CLOSER if known else UNKNOWN] = 1 - pd.DataFrame(layers).sum(axis=1)
    looks = {TRUE: (BLUE, ""), CLOSER: (GREEN, "///"), NO_CLOSER: (FAINT, ""), UNKNOWN: (FAINT, "")}
    handles, below = {}, 0 * means["true"]
    for name, share in layers.items():
        colour, hatch = looks[name]
        above = below + share
        options = {"facecolor": colour, "edgecolor": "#ffffff", "hatch": hatch, "linewidth": 0.0}
        if len(means) == 1:
            middle = float(means["spent"].iloc[0])
            handles[name] = panel.bar([middle], share, 0.3, bottom=below, label=name, **options)
        else:
            handles[name] = panel.fill_between(means["spent"], below, above, label=name, **options)
        below = above
    (handles["even spread"],) = panel.plot(
        means["spent"], means["even"], color=INK, linestyle="--", linewidth=1.2, label="even spread"
    )
    panel.set_ylim(0, 1)
    panel.set_xlim(left=0)
    tidy(panel)
    return handles
