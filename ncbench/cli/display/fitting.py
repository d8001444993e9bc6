"""Scores for all that fits, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ncbench.cli.display.output import print_table

if TYPE_CHECKING:
    from ncbench.evaluation.fitting import FittingRetrieval

COLUMNS = ("direction", "mAP@R", "R-precision", "first fits", "wrong firsts that fit")


def print_fitting(title: str, found: FittingRetrieval) -> None:
    """Print the scores of both directions, in percent."""
    rows = [
        (name, *("-" if value is None else f"{value:.1f}" for value in values))
        for name, side in (("image to text", found.i2t), ("text to image", found.t2i))
        for values in [(side.map_at_r, side.r_precision, side.r1, side.forgiven)]
    ]
    print_table(title, COLUMNS, rows, numbers=COLUMNS[1:])
