"""Published results: the rows of `leaderboards/published.csv`, with their noise units and numbers of networks.

The file has neither. UNITS and NETS give them by paper and method where a source states them. A row with the same six
recalls, method, data and noise as a known row is a reprint of it and shares its values. All others are unknown: tables
that reprint baselines mix both units.
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

from ncbench.errors import UserError, brief
from ncbench.report.tables.comparisons import RECALLS

T = TypeVar("T")

FIELDS = ("method", "backbone", "dataset", "eval", "noise_kind", "noise", *RECALLS, "rsum", "paper", "table", "notes")
EVALUATIONS = {"f30k": ("test",), "coco": ("coco-1k-5fold", "coco-5k"), "cc152k": ("test",)}
"""Evaluations by dataset, as named in `published.csv`."""

FLAGS = ("SUSPECT", "SUM-MISMATCH")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Published:
    """A published result: `recalls` (i2t R@1, 5, 10, then t2i) and `rsum` as printed, in percent.

    `backbone` is empty if the source does not state it; `noise` is None for natural noise. `unit` is images, captions,
    unknown, clean or natural. `nets` is the number of networks averaged, None if unknown.
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
        """Paper and table of the row."""
        return f"{self.paper}, {self.table}"

    @property
    def flags(self) -> str:
        """Known problems of the row as printed; empty if there are none."""
        return ", ".join(flag for flag in FLAGS if flag in self.notes)

    @property
    def reprinted(self) -> bool:
        """Whether the source reprints the row from another paper."""
        return "reprint" in self.notes

    @property
    def backbone_doubtful(self) -> bool:
        """Whether the printed backbone is unreliable: UCPM labels methods SGRAF whose code trains SGR."""
        return self.paper.startswith("UCPM") and self.backbone == "sgraf" and self.method in ("ncr", "mscn", "bicro")


@dataclass(frozen=True)
class Fact(Generic[T]):
    """A value for some rows, and `why` it holds.

    The rows are those of papers whose name starts with `paper`, with these methods, backbones and dataset (empty: any)
    and `note` in their notes. Reprinted rows are included only if `reprints`.
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
        """Return whether the value is that of `row`."""
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
"""Noise units. L2RM's MS-COCO files could not be checked, CRCL's code takes either; other papers do not say."""

_ONE_NET_METHODS = ("sgr", "saf", "sgr-star", "sgr-c", "saf-c", "sgr+clip", "saf+clip", "decl", "rcl", "l2rm", "ucpm")
_TWO_NET_METHODS = ("sgraf", "decl", "rcl", "l2rm", "ucpm", "ugncl")
NETS: Sequence[Fact[int]] = (
    Fact(2, "NCR averages two networks trained together", "NCR (NeurIPS 2021)", ("ncr",)),
    Fact(2, "the same, run again", "DECL (ACM MM 2022)", ("ncr",)),
    Fact(2, "the same", "DECL repository", ("ncr",)),
    Fact(2, "the same, run again", "RCL (TPAMI 2023)", ("ncr",)),
    Fact(1, "printed NCR*: one of NCR's two networks", "", ("ncr-single",)),
    Fact(1, "these train one network", "", _ONE_NET_METHODS, ("sgr", "saf"), reprints=True),
    Fact(2, "SGRAF averages SGR and SAF", "", _TWO_NET_METHODS, ("sgraf",), reprints=True),
    Fact(1, "a single model, as its author says", "CRCL repository", note="single model"),
)
"""Numbers of networks whose similarities are averaged. Other backbones (IMRAM, GSMN, SCAN) may be ensembles."""


def read_published() -> list[Published]:
    """Return the rows of `leaderboards/published.csv`, with units and networks. Raises UserError if it is damaged."""
    try:
        path = files("ncbench_leaderboards") / "published.csv"
        content = path.read_bytes()
    except (ImportError, OSError) as error:
        raise UserError(f"leaderboards/published.csv is not installed ({error}); reinstall ncbench") from error
    return with_units_and_nets(parse(content, "leaderboards/published.csv"))


def parse(content: bytes, name: str) -> list[Published]:
    """Return the rows of a file as printed. Raises UserError with `name` and line for malformed content."""
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        missing = [field for field in FIELDS if field not in (reader.fieldnames or ())]
        if missing:
            raise UserError(f"{name} has no columns {', '.join(missing)}; restore it")
        return [_row(row, f"{name}, line {reader.line_num}") for row in reader]
    except UserError as error:
        raise UserError(brief(error, 600)) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{name} is not a valid CSV file in UTF-8 ({brief(error)}); restore it") from error


def with_units_and_nets(rows: Sequence[Published]) -> list[Published]:
    """Return the rows with noise units and numbers of networks, where sources state them."""
    units = _fill_in(rows, lambda row: _unit_without_noise(row) or _stated(UNITS, row))
    nets = _fill_in(rows, lambda row: _stated(NETS, row))
    return [replace(row, unit=unit or UNKNOWN, nets=n) for row, unit, n in zip(rows, units, nets, strict=True)]


def _unit_without_noise(row: Published) -> str | None:
    """Return the unit of rows without synthetic noise; None for others."""
    return "natural" if row.noise is None else "clean" if row.noise == 0 else None


def _stated(facts: Iterable[Fact[T]], row: Published) -> T | None:
    return next((fact.value for fact in facts if fact.holds(row)), None)


def _fill_in(rows: Sequence[Published], stated: Callable[[Published], T | None]) -> list[T | None]:
    """Return the value stated for each row, else the one of rows with the same result if these agree, else None."""
    known: dict[tuple[object, ...], set[T]] = defaultdict(set)
    for row in rows:
        value = stated(row)
        if value is not None:
            known[_result(row)].add(value)
    found: list[T | None] = []
    for row in rows:
        value, alike = stated(row), known[_result(row)]
        found.append(next(iter(alike)) if value is None and len(alike) == 1 else value)
    return found


def _result(row: Published) -> tuple[object, ...]:
    """Return the key that reprints of one result share."""
    return row.dataset, row.evaluation, row.method, row.noise, row.recalls


def _row(cells: Mapping[str | None, str | None], where: str) -> Published:
    texts = {field: cells.get(field) for field in FIELDS}
    if None in cells or None in texts.values():
        raise UserError(f"{where}: expected {len(FIELDS)} cells; restore it")
    found = {field: str(text).strip() for field, text in texts.items()}
    dataset, evaluation, kind = found["dataset"], found["eval"], found["noise_kind"]
    for field in ("method", "paper", "table"):
        if not found[field]:
            raise UserError(f"{where}: {field} is empty; restore it")
    if evaluation not in EVALUATIONS.get(dataset, ()):
        known = ", ".join(f"{name} {one}" for name, several in EVALUATIONS.items() for one in several)
        raise UserError(f"{where}: unknown evaluation {dataset} {evaluation}; expected one of {known}")
    if kind not in ("shuffle", "natural") or (kind == "natural") != (not found["noise"]):
        raise UserError(f"{where}: expected noise_kind shuffle with a noise, or natural without one; found {kind!r}")
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


def _number(cells: Mapping[str, str], field: str, maximum: int, where: str) -> float:
    try:
        value = float(cells[field])
    except ValueError:
        value = math.nan
    if not 0 <= value <= maximum:
        raise UserError(f"{where}: {field} must be a number from 0 to {maximum}, found {cells[field]!r}")
    return value
