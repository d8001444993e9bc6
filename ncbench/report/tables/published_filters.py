"""Which published results are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ncbench.noise.ratio import NATURAL, Amount
from ncbench.report.tables.published import Published


@dataclass(frozen=True)
class Filters:
    """Which published results are shown: noise ratios, methods and backbones as printed, and parts of paper names.

    Empty means all.
    """

    noises: Sequence[Amount] = ()
    methods: Sequence[str] = ()
    backbones: Sequence[str] = ()
    papers: Sequence[str] = ()

    def __bool__(self) -> bool:
        return any((self.noises, self.methods, self.backbones, self.papers))

    def admits(self, row: Published) -> bool:
        """Return whether `row` passes; case does not matter."""
        noise: Amount = NATURAL if row.noise is None else row.noise
        return (
            (not self.noises or noise in self.noises)
            and _among(row.method, self.methods)
            and _among(row.backbone or "not stated", self.backbones)
            and (not self.papers or any(paper.casefold() in row.source.casefold() for paper in self.papers))
        )


def _among(name: str, wanted: Sequence[str]) -> bool:
    return not wanted or name.casefold() in {one.casefold() for one in wanted}


def choices(filters: Filters, rows: Sequence[Published]) -> str:
    """Return what the first filter that admits nothing could be; else what to do."""
    known = {
        "noise": sorted({NATURAL if row.noise is None else f"{row.noise:g}" for row in rows}),
        "method": sorted({row.method for row in rows}),
        "backbone": sorted({row.backbone or "not stated" for row in rows}),
        "paper": sorted({row.paper for row in rows}),
    }
    alone = {
        "noise": Filters(noises=filters.noises),
        "method": Filters(methods=filters.methods),
        "backbone": Filters(backbones=filters.backbones),
        "paper": Filters(papers=filters.papers),
    }
    for name, one in alone.items():
        if not any(map(one.admits, rows)):
            return f"--{name} has {', '.join(known[name])}"
    return "each alone admits some, but not together"
