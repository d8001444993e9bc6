"""The table of runs as users see it: what is not known is not a number."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ncbench.noise.ratio import NATURAL
from ncbench.records import table


def load_runs(folder: Path | str) -> pd.DataFrame:
    """Return one row per finished run in `folder`: its axes, scores in percent, work, seconds and peak bytes.

    `noise` is NaN where pairs are mismatched by nature, as nobody knows how many. `variant` is the name of the method,
    with the settings that differ between runs of this method and dataset, and with the epochs of a budget in own
    epochs. `allowance` is the budget, 0 for budgets that are not compute-matched. `sees_truth` says whether the method
    knew which pairs are clean, `clean_pairs_given` how many clean pairs it was given. `rsum_unfolded` is the rSum of
    the whole test split where `rsum` is a mean over folds. `overhead` is the share of the training time outside the
    networks. `sizes` are those of the backbone, `folder` that of the record. Raises UserError without any finished run,
    and for a damaged record.
    """
    frame = table.load_runs(folder)
    # Reports group runs by their ratio, and pandas leaves groups of NaN out, so the records and reports have 0.
    frame["noise"] = frame["noise"].astype(float).mask(frame["protocol"] == NATURAL)
    return frame
