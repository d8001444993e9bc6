"""Runs in words: what they are, when and where they ran, and how to repeat them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ncbench.budget import Budget
from ncbench.data.registry import dataset_names
from ncbench.data.same_names import MIN_DIGITS
from ncbench.noise.ratio import CLEAN, NATURAL
from ncbench.records.record import Record

COLUMNS = ("method", "seed", "rSum", "dev rSum", "training", "peak memory", "device", "recorded", "commit", "run")
NUMBERS = frozenset(("seed", "rSum", "dev rSum", "training", "peak memory"))


@dataclass(frozen=True)
class Provenance:
    """Where records come from: `commits`, and the first and last `dates`; empty where records do not say."""

    commits: Sequence[str]
    dates: Sequence[str]

    @property
    def words(self) -> str:
        """Commit and dates in words."""
        at = f"commit{'s' if len(self.commits) > 1 else ''} {', '.join(self.commits)}" if self.commits else "no commit"
        when = " to ".join(dict.fromkeys((self.dates[0], self.dates[-1]))) if self.dates else "no date"
        return f"recorded {when}, {at}"


def run_row(record: Record, variant: str) -> list[str]:
    """Return a run as text, in the order of COLUMNS."""
    result, measured = record.result, record.measurements
    environment = None if measured is None else measured.environment
    peak = None if measured is None else measured.peak
    return [
        variant,
        str(result.spec.seed),
        f"{result.metrics.test.rsum:.1f}",
        f"{result.selected.dev_rsum:.1f}",
        "-" if measured is None else f"{measured.seconds.training:,.0f} s",
        "-" if peak is None else f"{peak / 2**20:,.0f} MiB",
        "-" if environment is None else environment.device or "-",
        _date(record) or "-",
        _commit(record) or "-",
        result.id,
    ]


def provenance(folders: Iterable[str]) -> Provenance:
    """Return where the records in `folders` come from."""
    records = [Record(Path(folder)) for folder in folders]
    commits = dict.fromkeys(filter(None, map(_commit, records)))
    return Provenance(sorted(commits), sorted(filter(None, map(_date, records))))


def settings_in_words(runs: pd.DataFrame) -> dict[str, str]:
    """Return the settings of each variant, and its backbone's sizes, in words."""
    found: dict[str, str] = {}
    for variant, folder in zip(runs["variant"], runs["folder"], strict=True):
        if variant not in found:
            spec = Record(Path(folder)).result.spec
            settings = [f"{_spaced(key)} {_value(value)}" for key, value in sorted(spec.settings.items())]
            sizes = [f"{_spaced(key)} {_value(value)}" for key, value in sorted(spec.sizes.items())]
            parts = {"settings": settings, f"backbone {spec.backbone}": sizes}
            found[str(variant)] = "; ".join(f"{name}: {', '.join(items)}" for name, items in parts.items() if items)
    return found


def command(key: Mapping[str, Any], runs: pd.DataFrame) -> str:
    """Return the command that makes the runs of a comparison (of `key`), with default settings; "" if none does."""
    first = runs.iloc[0]
    if first["budget_unit"] == "self-reported":
        return ""
    dataset = str(key["dataset"])
    if str(key["conditions"]).startswith("content ") and dataset not in dataset_names():
        dataset += f"@{first['dataset_digest'][:MIN_DIGITS]}"  # as `--dataset` takes it for imported datasets
    words = ["ncbench", "run", "--dataset", dataset, "--method", _joined(sorted(runs["method"]))]
    words += ["--backbone", str(key["backbone"])]
    if key["protocol"] == NATURAL:
        words += ["--noise", NATURAL]
    else:
        words += ["--noise", f"{key['noise']:g}"]
        words += [] if key["protocol"] == CLEAN else ["--protocol", str(key["protocol"])]
    budget = Budget(float(first["budget"]), first["budget_unit"]).text
    return shlex.join([*words, "--seed", _joined(sorted(runs["seed"])), "--budget", budget])


def bibtex(dataset: str, found: Provenance) -> str:
    """Return a BibTeX entry for the leaderboard of a dataset."""
    plain = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in dataset)
    safe = dataset.translate({ord(letter): " " for letter in "{}\\%$#&~^"})
    year = f"  year = {{{found.dates[-1][:4]}}},\n" if found.dates else ""
    return (
        f"@misc{{ncbench-{plain},\n"
        f"  title = {{ncbench leaderboard: {safe}}},\n"
        f"{year}"
        f"  note = {{Methods for noisy correspondence under equal budgets; {found.words}}},\n"
        "}\n"
    )


def method_lines(methods: Iterable[str]) -> dict[str, str]:
    """Return what each method is, in a line; empty for methods that are not installed here."""
    from ncbench.errors import UserError
    from ncbench.method.registry import load_method

    found = {}
    for name in dict.fromkeys(methods):
        try:
            found[name] = load_method(name, run_found=False).__doc__ or ""
        except UserError:
            found[name] = ""
    return {name: " ".join(text.strip().partition("\n\n")[0].split()) for name, text in found.items()}


def _joined(values: Iterable[object]) -> str:
    return ",".join(map(str, dict.fromkeys(values)))


def _date(record: Record) -> str | None:
    started = None if record.measurements is None else record.measurements.started
    return None if started is None else time.strftime("%Y-%m-%d", time.gmtime(started))


def _commit(record: Record) -> str | None:
    commit = None if record.measurements is None else record.measurements.environment.commit
    return f"{commit[:7]}{'+' if commit.endswith('+') else ''}" if commit else None


def _spaced(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
