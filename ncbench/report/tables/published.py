"""Published numbers: the rows of `leaderboards/published.csv`, and what its sources say of their noise and networks.

The file has neither noise units nor ensemble sizes. UNITS and NETS say them, by paper and method, where a source
settles them; a row that repeats all six recalls of a settled one, of the same method, data and noise, is that result
printed again and shares its facts. All others are unknown: tables that reprint baselines mix both units.
"""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Generic, TypeVar

from ncbench.errors import UserError
from ncbench.report.tables.comparisons import RECALLS

T = TypeVar("T")

FIELDS = ("method", "backbone", "dataset", "eval", "noise_kind", "noise", *RECALLS, "rsum", "paper", "table", "notes")
EVALUATIONS = {"f30k": ("test",), "coco": ("coco-1k-5fold", "coco-5k"), "cc152k": ("test",)}
"""What is evaluated, by dataset: the names of `published.csv`."""

FLAGS = ("SUSPECT", "SUM-MISMATCH")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Published:
    """A published result: `recalls` (i2t R@1, 5, 10, then t2i) and `rsum` as printed, in percent.

    `backbone` is empty where the source does not state it, `noise` None where pairs are mismatched by nature. `unit` is
    images, captions or unknown, or clean or natural where no noise was made; `nets` are the networks averaged, None if
    unknown.
    """

    method: str
    backbone: str
    dataset: str
    evaluation: str
    noise: float | None
    recalls: tuple[float, ...]
    rsum: float
    paper: str
    table: str
    notes: str
    unit: str = UNKNOWN
    nets: int | None = None

    @property
    def source(self) -> str:
        """Where the row was read."""
        return f"{self.paper}, {self.table}"

    @property
    def flags(self) -> str:
        """What is wrong with the row as printed, empty if nothing is known to be."""
        return ", ".join(flag for flag in FLAGS if flag in self.notes)

    @property
    def reprinted(self) -> bool:
        """Whether the source took the row from another paper."""
        return "reprint" in self.notes

    @property
    def doubted(self) -> bool:
        """Whether the printed backbone is not to be relied on: UCPM labels methods SGRAF whose code trains SGR."""
        return self.paper.startswith("UCPM") and self.backbone == "sgraf" and self.method in ("ncr", "mscn", "bicro")


@dataclass(frozen=True)
class Fact(Generic[T]):
    """What `why` says of the rows of a paper (how its name starts), of these methods, backbones, dataset; empty is all.

    It is about rows that have `note` in their notes, and about reprinted ones only if `reprints`.
    """

    value: T
    why: str
    paper: str = ""
    methods: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()
    dataset: str = ""
    note: str = ""
    reprints: bool = False

    def holds(self, row: Published) -> bool:
        """Return whether it is about `row`."""
        return (
            row.paper.startswith(self.paper)
            and (not self.methods or row.method in self.methods)
            and (not self.backbones or row.backbone in self.backbones)
            and self.dataset in ("", row.dataset)
            and self.note in row.notes
            and (self.reprints or not row.reprinted)
        )


UNITS: Sequence[Fact[str]] = (
    Fact("captions", "NCR's code shuffles captions", "NCR (NeurIPS 2021)"),
    Fact("images", "DECL's code permutes images; its baselines are run on the same noise", "DECL (ACM MM 2022)"),
    Fact("captions", "run on NCR's noise index, as its README says", "DECL repository"),
    Fact("images", "RCL's released index files permute images", "RCL (TPAMI 2023)"),
    Fact("images", "UGNCL's code permutes images", "UGNCL (SIGIR 2024)", ("ugncl",)),
    Fact("images", "L2RM's Flickr30K files are RCL's, five times", "L2RM repository", ("l2rm",), dataset="f30k"),
    Fact("images", "the same", "", ("l2rm",), dataset="f30k", note="reprint of L2RM", reprints=True),
)
"""Noise units. L2RM's MS-COCO files could not be checked, CRCL's code takes either; the rest is silent."""

_ALONE = ("sgr", "saf", "sgr-star", "sgr-c", "saf-c", "sgr+clip", "saf+clip", "decl", "rcl", "l2rm", "ucpm")
_PAIRED = ("sgraf", "decl", "rcl", "l2rm", "ucpm", "ugncl")
NETS: Sequence[Fact[int]] = (
    Fact(2, "NCR averages two networks trained together", "NCR (NeurIPS 2021)", ("ncr",)),
    Fact(2, "the same, run again", "DECL (ACM MM 2022)", ("ncr",)),
    Fact(2, "the same", "DECL repository", ("ncr",)),
    Fact(2, "the same, run again", "RCL (TPAMI 2023)", ("ncr",)),
    Fact(1, "printed NCR*: one of NCR's two networks", "", ("ncr-single",)),
    Fact(1, "these train one network", "", _ALONE, ("sgr", "saf"), reprints=True),
    Fact(2, "SGRAF averages SGR and SAF", "", _PAIRED, ("sgraf",), reprints=True),
    Fact(1, "a single model, as its author says", "CRCL repository", note="single model"),
)
"""Networks whose similarities are averaged. Other backbones (IMRAM, GSMN, SCAN) may be ensembles of their own."""


def read_published() -> list[Published]:
    """Return the rows of `leaderboards/published.csv`, with units and networks. Raises UserError if it is damaged."""
    try:
        path = files("ncbench_leaderboards") / "published.csv"
        content = path.read_bytes()
    except (ImportError, OSError) as error:
        raise UserError(f"leaderboards/published.csv is not installed ({error}); install ncbench again") from error
    return settled(parse(content, "leaderboards/published.csv"))


def parse(content: bytes, name: str) -> list[Published]:
    """Return the rows of a file as they stand in it. Raises UserError, with `name` and line, for what is malformed."""
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        missing = [field for field in FIELDS if field not in (reader.fieldnames or ())]
        if missing:
            raise UserError(f"{name} lacks the columns {', '.join(missing)}; restore it")
        return [_row(row, f"{name}, line {reader.line_num}") for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{name} is no table in UTF-8 ({error}); restore it") from error


def settled(rows: Sequence[Published]) -> list[Published]:
    """Return the rows with the unit of their noise and the number of their networks, as far as sources settle them."""
    units = _spread(rows, lambda row: _natural(row) or _told(UNITS, row))
    nets = _spread(rows, lambda row: _told(NETS, row))
    return [replace(row, unit=unit or UNKNOWN, nets=n) for row, unit, n in zip(rows, units, nets, strict=True)]


def _natural(row: Published) -> str | None:
    """Return the unit of rows that need none: no noise was made."""
    return "natural" if row.noise is None else "clean" if row.noise == 0 else None


def _told(facts: Iterable[Fact[T]], row: Published) -> T | None:
    return next((fact.value for fact in facts if fact.holds(row)), None)


def _spread(rows: Sequence[Published], told: Callable[[Published], T | None]) -> list[T | None]:
    """Return what is told of each row, or of rows with the same six recalls where these agree, or None."""
    known: dict[tuple[object, ...], set[T]] = defaultdict(set)
    for row in rows:
        value = told(row)
        if value is not None:
            known[_result(row)].add(value)
    found: list[T | None] = []
    for row in rows:
        value, alike = told(row), known[_result(row)]
        found.append(next(iter(alike)) if value is None and len(alike) == 1 else value)
    return found


def _result(row: Published) -> tuple[object, ...]:
    """Return what two printings of one result share."""
    return row.dataset, row.evaluation, row.method, row.noise, row.recalls


def _row(cells: Mapping[str | None, str | None], where: str) -> Published:
    texts = {field: cells.get(field) for field in FIELDS}
    if None in cells or None in texts.values():
        raise UserError(f"{where}: a row has {len(FIELDS)} cells; restore it")
    found = {field: str(text).strip() for field, text in texts.items()}
    dataset, evaluation, kind = found["dataset"], found["eval"], found["noise_kind"]
    for field in ("method", "paper", "table"):
        if not found[field]:
            raise UserError(f"{where}: {field} is empty; restore it")
    if evaluation not in EVALUATIONS.get(dataset, ()):
        known = ", ".join(f"{name} {one}" for name, several in EVALUATIONS.items() for one in several)
        raise UserError(f"{where}: {dataset} {evaluation} is not evaluated; there are {known}")
    if kind not in ("shuffle", "natural") or (kind == "natural") != (not found["noise"]):
        raise UserError(f"{where}: noise_kind must be shuffle, with a noise, or natural, without one; found {kind!r}")
    return Published(
        method=found["method"],
        backbone=found["backbone"],
        dataset=dataset,
        evaluation=evaluation,
        noise=None if kind == "natural" else _number(found, "noise", 1, where),
        recalls=tuple(_number(found, field, 100, where) for field in RECALLS),
        rsum=_number(found, "rsum", 600, where),
        paper=found["paper"],
        table=found["table"],
        notes=found["notes"],
    )


def _number(cells: Mapping[str, str], field: str, most: int, where: str) -> float:
    try:
        value = float(cells[field])
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise UserError(f"{where}: {field} must be a number from 0 to {most}, found {cells[field]!r}")
    return value
