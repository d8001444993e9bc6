"""Kinds of command-line parameters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from ncbench.precision import PRECISIONS

FOLDER = click.Path(file_okay=False, path_type=Path)

device = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where networks are computed; auto is CUDA where there is any, else the CPU.",
)
precision = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="Of matrix products: tf32 is faster on CUDA, bf16 for sgr, saf and sgraf, at some loss of digits.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


class CommaList(click.ParamType[Any]):
    """Values between commas, each converted by `item`; a value given twice counts once. Gives a tuple."""

    def __init__(self, item: click.ParamType[Any], name: str) -> None:
        self.item = item
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Return the converted values in the order given."""
        if not isinstance(value, str):
            return tuple(value)
        parts = [part.strip() for part in value.split(",")]
        if not all(parts):
            self.fail(f"{value!r} has an empty item; write it as A,B,C.", param, ctx)
        return tuple(dict.fromkeys(self.item.convert(part, param, ctx) for part in parts))


class Positive(click.ParamType[float]):
    """A finite number above zero."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number > 0):
            self.fail(f"{value!r} is not a number above 0.", param, ctx)
        return number


class Ratio(click.ParamType[float]):
    """A noise ratio in [0, 1)."""

    name = "ratio"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the ratio."""
        try:
            ratio = float(value)
        except ValueError:
            ratio = math.nan
        if not 0 <= ratio < 1:
            self.fail(
                f"{value!r} is not a noise ratio; it must be at least 0 and below 1, for example 0.4.", param, ctx
            )
        return ratio


class Seed(click.IntRange):
    """An integer from 0."""

    name = "integer"


NAMES = CommaList(click.STRING, "name,...")
RATIOS = CommaList(Ratio(), "ratio,...")
BUDGETS = CommaList(Positive(), "number,...")
SEEDS = CommaList(Seed(min=0), "integer,...")
