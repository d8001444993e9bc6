"""Options and parameter types that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ncbench.backbones.precision import PRECISIONS
from ncbench.cli.options.names import complete_names, complete_sweeps

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
    help="Device to compute on. auto uses CUDA if available, else the CPU.",
)
precision = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="Precision of matrix products. tf32 (CUDA) and bf16 (sgr, saf and sgraf only) are faster but less accurate.",
)
runs_folder = click.option(
    "--runs", "folder", type=FOLDER, default="runs", show_default=True, help="Folder of run records, or a part of it."
)
data_root = click.option("--data-root", type=FOLDER, help="Folder with the files of released datasets.")
sweep = click.option(
    "--sweep",
    metavar="ID",
    shell_complete=complete_sweeps,
    help="Sweep id, or a unique prefix of it.  [default: the latest sweep]",
)
dev_rule = click.option(
    "--dev-rule",
    type=click.Choice(["standard", "ncr"]),
    default="standard",
    show_default=True,
    help="Dev split of released datasets: standard uses 1,000 images; ncr uses 1,000 rows of the image file, as NCR "
    "does, which are 200 images if each is stored five times.",
)
image_features = click.option(
    "--image-features", metavar="COL", help="For --dataset hf:...: column with image or region feature vectors."
)
captions = click.option(
    "--captions", metavar="COL", help="For --dataset hf:...: column with captions, or with lists of captions."
)
text_features = click.option(
    "--text-features", metavar="COL", help="For --dataset hf:...: column with caption vectors, used instead of words."
)
tolerance = click.option(
    "--tolerance",
    type=click.FloatRange(min=0, max=100),
    default=1.0,
    show_default=True,
    metavar="POINTS",
    help="Largest accepted difference of test recalls in a replay, in percentage points, if results are not identical.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


class CommaList(click.ParamType[Any]):
    """A comma-separated list, converted to a tuple of distinct values of type `item`."""

    def __init__(self, item: click.ParamType[Any], name: str) -> None:
        self.item = item
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Return the converted values in the order given."""
        parts = _split(value) if isinstance(value, str) else list(value)
        if any(part == "" for part in parts):
            self.fail(f"{value!r} has an empty item; expected A,B,C.", param, ctx)
        return tuple(dict.fromkeys(self.item.convert(part, param, ctx) for part in parts))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete names of the kind that the parameter is called after."""
        return complete_names(str(param.name), incomplete)


def _split(text: str) -> list[str]:
    """Split at commas, but not within the path of an existing file or folder (which may follow `file:` or `hf:`)."""
    pieces = text.split(",")
    parts: list[str] = []
    while pieces:
        whole = next((n for n in range(len(pieces), 1, -1) if _is_existing_path(",".join(pieces[:n]).strip())), 1)
        parts.append(",".join(pieces[:whole]).strip())
        del pieces[:whole]
    return parts


def _is_existing_path(text: str) -> bool:
    prefix, colon, rest = text.partition(":")
    try:
        return Path(rest if colon and prefix.replace("-", "").isalpha() else text).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


class BudgetType(click.ParamType["Budget | Paper"]):
    """A training budget."""

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
            self.fail(f"{str(error).rstrip('.')}.", param, ctx)


class Bytes(click.ParamType[int]):
    """An amount of memory in bytes."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes."""
        found = _BYTES.fullmatch(str(value).strip().lower())
        amount = float(found["amount"]) if found else 0.0
        if found is None or not amount:
            self.fail(f"{value!r} is not a valid amount of memory. Use 500MiB, 8GiB or a number of bytes.", param, ctx)
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
    """A non-negative integer."""

    name = "integer"


NAMES = CommaList(click.STRING, "name,...")
RATIOS = CommaList(Ratio(), "ratio,...")
BUDGETS = CommaList(BudgetType(), "budget,...")
SEEDS = CommaList(Seed(min=0), "integer,...")
