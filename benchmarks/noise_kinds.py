"""Measure which kinds of noise a method finds: its P(clean) of the pairs with each change, against clean pairs.

Usage: ncbench run --method l2rm,ncr --protocol harvested --noise 0.4
       python benchmarks/noise_kinds.py runs/scenes/*/*

Prints for each run and change (`ncbench.noise.base.Change`) the number of pairs, the area under the ROC curve of
telling them from clean pairs, and the share that the method takes for mismatched (P(clean) below 0.5). The first row of
a run is about its clean pairs. Clean pairs that the method was given are left out.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from ncbench import UserError, detect
from ncbench.noise.base import Change
from ncbench.records.audit import Audit, load_audit

KINDS: dict[Change, str] = {"image": "neighbour", "shortened": "topic", "words": "duplicate", "unknown": "foreign"}
"""The names of changes under `harvested`. Under other protocols, `words` are those of another caption."""


def rows_of(audit: Audit, protocol: str) -> list[tuple[str, ...]]:
    """Return a row for the clean pairs of a run, then one for each change."""
    judged, changes = audit.judged, audit.changes()
    p_clean, changes = audit.p_clean[judged], changes[judged]
    found = []
    for change in ("", *KINDS):
        some = changes == change
        if not some.any():
            continue
        name = (KINDS[change] if protocol == "harvested" else change) if change else "clean"
        both = some | (changes == "")
        auc = f"{detect(p_clean[both], changes[both] == '').auc:.3f}" if change else ""
        found.append((name, f"{int(some.sum()):,}", auc, f"{np.mean(p_clean[some] < 0.5):.3f}"))
    return found


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data-root", type=click.Path(path_type=Path), help="Where released datasets are.")
def main(runs: tuple[Path, ...], data_root: Path | None) -> None:
    """Judge finished RUNS, folders such as runs/scenes/l2rm/0123456789ab."""
    click.echo("| run | kind | pairs | AUC against clean pairs | taken for mismatched |")
    click.echo("| --- | --- | ---: | ---: | ---: |")
    for run in runs:
        audit = load_audit(run, data_root)
        for row in rows_of(audit, audit.spec.protocol):
            click.echo(f"| {' | '.join((audit.title, *row))} |")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from error
