"""Scores of the committed leaderboard of `scenes`."""

from __future__ import annotations

import pandas as pd
from places import ROOT

BACKBONE, BUDGET = "vse-infinity", 5.0


def scores_of_scenes() -> pd.Series[float]:
    """Return the mean rSum by method, protocol and ratio, under equal work and with the settings of the presets."""
    runs = pd.read_csv(ROOT / "leaderboards/scenes/runs.csv")
    runs = runs[(runs["variant"] == runs["method"]) & (runs["backbone"] == BACKBONE)]
    runs = runs[(runs["budget_unit"] == "epochs") & (runs["budget"] == BUDGET)]
    return runs.groupby(["method", "protocol", "noise"])["rsum"].mean()
