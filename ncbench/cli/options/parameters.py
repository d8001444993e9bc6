"""Kinds of command-line parameters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ncbench.backbones.precision import PRECISIONS
from ncbench.cli.options.names import complete_names

if TYPE_CHECKING:
    from ncbench.budget import Budget, Paper
    from ncbench.noise.ratio import Amount

_BYTES = re.compile(r"(?P<amount>\d+(\.\d+)?)\s*((?P<unit>[kmgt])i?)?b?")

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
sweep = click.option(
    "--sweep",
    metavar="ID",
    help="Which sweep, by its id or how that begins.  [default: the one that was launched last]",
)
dev_rule = click.option(
    "--dev-rule",
    type=click.Choice(["standard", "ncr"]),
    default="standard",
    show_default=True,
    help="Of released files, which part of dev is used: 1,000 images; or, as the NCR family does, 1,000 rows: 200 "
    "images where rows are repeated.",
)
image_features = click.option(
    "--image-features", metavar="COL", help="Of --dataset hf:NAME_OR_PATH: the column of vectors, or of regions."
)
captions = click.option("--captions", metavar="COL", help="Of --dataset hf:...: the column of texts, or lists of them.")
text_features = click.option(
    "--text-features", metavar="COL", help="Of --dataset hf:...: a column of vectors of captions, used for their words."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


class CommaList(click.ParamType[Any]):
    """Values between commas, each converted by `item`; a value given twice counts once. Gives a tuple."""

    def __init__(self, item: click.ParamType[Any], name: str) -> None:
        self.item = item
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Return the converted values in the order given."""
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
        if any(part == "" for part in parts):
            self.fail(f"{value!r} has an empty item; write it as A,B,C.", param, ctx)
        return tuple(dict.fromkeys(self.item.convert(part, param, ctx) for part in parts))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that there are of what the parameter is called."""
        return complete_names(str(param.name), incomplete)


class BudgetType(click.ParamType["Budget | Paper"]):
    """What runs may spend."""

    name = "budget"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Budget | Paper:
        """Return the budget."""
        from ncbench.budget import Budget, Paper

        if isinstance(value, Budget | Paper):
            return value
        if str(value).lower() == "paper":
            return Paper()
        try:
            return Budget.parse(str(value))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class Bytes(click.ParamType[int]):
    """An amount of memory."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes."""
        found = _BYTES.fullmatch(str(value).strip().lower())
        amount = float(found["amount"]) if found else 0.0
        if found is None or not amount:
            self.fail(f"{value!r} is no amount of memory; write 500MiB, 8GiB or a number of bytes.", param, ctx)
        return int(amount * 1024 ** ("kmgt".index(found["unit"]) + 1 if found["unit"] else 0))


class Ratio(click.ParamType["Amount"]):
    """A noise ratio in [0, 1), or `natural`."""

    name = "ratio"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Amount:
        """Return the ratio."""
        from ncbench.errors import UserError
        from ncbench.noise.ratio import amount_of

        try:
            return amount_of(value)
        except UserError as error:
            self.fail(str(error), param, ctx)


class Seed(click.IntRange):
    """An integer from 0."""

    name = "integer"


NAMES = CommaList(click.STRING, "name,...")
RATIOS = CommaList(Ratio(), "ratio,...")
BUDGETS = CommaList(BudgetType(), "budget,...")
SEEDS = CommaList(Seed(min=0), "integer,...")
