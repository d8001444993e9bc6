"""Draw all pictures of `scenes` and write the features that come with ncbench.

Usage: python benchmarks/scenes_features.py [--jobs 2]

The features follow from the version and the seed of the data set, and from the network in `detector.safetensors`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from ncbench.data.scenes.making import jobs_of, look_at, progress, workers_for
from ncbench.data.scenes.sample import Seen, Series
from ncbench.data.scenes.shipped import FILE, SEED, SIZES, VERSION, save


@click.command()
@click.option("--jobs", default=2, show_default=True, help="Processes that draw pictures.")
@click.option("--out", default=FILE, show_default=True, type=click.Path(path_type=Path))
def main(jobs: int, out: Path) -> None:
    """Draw, look and write."""
    work = {split: jobs_of(Series(VERSION, SEED, split), 0, size) for split, size in SIZES.items()}
    with workers_for(jobs, jobs) as pool, progress("scenes", sum(SIZES.values()), 0.02 * 5_500 / jobs) as advance:
        save({split: Seen.join(look_at(work[split], pool, advance)) for split in SIZES}, out)
    click.echo(f"{out}: {out.stat().st_size} bytes, SHA-256 {hashlib.sha256(out.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
