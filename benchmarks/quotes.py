"""Renews the scores that documents quote from the leaderboard of `scenes`.

Usage: python benchmarks/quotes.py

A quote names its cell: 525.7 (`l2rm`, images 0.4), or captions 0.8, or clean. It is the mean rSum over seeds, under
equal work and with the settings of the presets. Rewrites DOCUMENTS in place; what they say about the scores has to be
read again by a person.
"""

from __future__ import annotations

import re
from pathlib import Path

import click
import pandas as pd

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "leaderboards" / "scenes" / "runs.csv"
DOCUMENTS = (ROOT / "leaderboards" / "README.md", ROOT / "docs" / "pages" / "which-method.md")
BACKBONE, BUDGET = "vse-infinity", 5.0

QUOTE = re.compile(r"(\d+\.\d)(\s+\(`([\w-]+)`,\s+(images|captions|clean)(?:\s+(0\.\d))?\))")
PROTOCOLS = {"images": "shuffle-images", "captions": "shuffle-captions", "clean": "clean"}


def scores_of_scenes() -> pd.Series[float]:
    """Return the mean rSum by method, protocol and ratio, under equal work and with the settings of the presets."""
    runs = pd.read_csv(RUNS)
    runs = runs[(runs["variant"] == runs["method"]) & (runs["backbone"] == BACKBONE)]
    runs = runs[(runs["budget_unit"] == "epochs") & (runs["budget"] == BUDGET)]
    return runs.groupby(["method", "protocol", "noise"])["rsum"].mean()


def renewed(text: str, scores: pd.Series[float]) -> str:
    """Return `text` with the scores of all cells that it quotes. Raises KeyError for a cell that there is not."""

    def quote(found: re.Match[str]) -> str:
        _, cell, method, unit, ratio = found.groups()
        return f"{scores[method, PROTOCOLS[unit], float(ratio or 0)]:.1f}{cell}"

    return QUOTE.sub(quote, text)


@click.command()
def main() -> None:
    """Renew the quotes; see the top of this file."""
    scores = scores_of_scenes()
    for path in DOCUMENTS:
        text = path.read_text()
        path.write_text(renewed(text, scores))
        click.echo(f"{path.relative_to(ROOT)}: {len(QUOTE.findall(text))} scores")


if __name__ == "__main__":
    main()
