"""Looking at the pictures of a series in several processes, with a progress bar."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Protocol

from ncbench.data.scenes.sample import Seen, Series

CHUNK_SIZE = 50  # pictures per unit of work


class Advance(Protocol):
    """A callback that says that some more pictures are done."""

    def __call__(self, pictures: int) -> None:
        """Add to the pictures that are done."""


_Job = tuple[Series, int, int]  # first picture, end


def jobs_of(series: Series, start: int, end: int) -> list[_Job]:
    """Return the units of work for pictures start to end - 1."""
    return [(series, first, min(first + CHUNK_SIZE, end)) for first in range(start, end, CHUNK_SIZE)]


def look(job: _Job) -> Seen:
    """Do a unit of work."""
    return Seen.of(*job)


@contextmanager
def workers_for(jobs: int, workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """Give a pool of processes for `jobs` units of work, or None if one process will do."""
    if min(workers, jobs) < 2:
        yield None
        return
    with ProcessPoolExecutor(min(workers, jobs), mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def look_at(jobs: Sequence[_Job], pool: ProcessPoolExecutor | None, advance: Advance) -> list[Seen]:
    """Return what is seen in the pictures of `jobs`, in order.

    Works in this process without a pool, or if the processes of `pool` cannot start. They cannot from a script without
    an `if __name__ == "__main__"` guard.
    """
    found: list[Seen] = []
    if pool is not None:
        try:
            for seen in pool.map(look, jobs):
                found.append(seen)
                advance(len(seen))
        except BrokenProcessPool:
            pass
    for job in jobs[len(found) :]:
        found.append(look(job))
        advance(len(found[-1]))
    return found


@contextmanager
def progress(name: str, pictures: int, seconds: float) -> Iterator[Advance]:
    """Show on the terminal what is made, how far it is and how long it takes; elsewhere, say so in one line."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    told = f"making the dataset {name}, once (about {_duration(seconds)})"
    console = Console(stderr=True)
    if not console.is_terminal:
        print(told, file=sys.stderr)
        yield lambda pictures: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("pictures, left:")
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(told, total=pictures)
        yield lambda pictures: bar.advance(task, pictures)


def _duration(seconds: float) -> str:
    return f"{max(round(seconds), 1)} s" if seconds < 90 else f"{round(seconds / 60)} min"
