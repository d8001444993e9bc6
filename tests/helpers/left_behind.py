"""What a sweep leaves behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ncbench.records.record import Record
from ncbench.sweeps.record import FOLDER


def records(out: Path) -> dict[str, object]:
    """Return all that a sweep has left in its folder of records, but for times and what belongs to the sweep itself."""
    found: dict[str, object] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_dir() or path.name == "measurements.json" or path.is_relative_to(out / FOLDER):
            continue
        if path.name == "history.jsonl":
            lines = Record(path.parent).history_lines()
            found[name] = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
        elif path.name == "ranks.npz":
            with np.load(path) as ranks:
                found[name] = {key: ranks[key].tolist() for key in ranks}
        else:
            found[name] = path.read_bytes()
    return found
