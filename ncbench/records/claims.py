"""What a set of runs claims to be: its grid, its gaps, and where settings and methods are not the shipped ones."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ncbench.data.same_names import told_apart
from ncbench.errors import UserError
from ncbench.method.registry import GROUP, load_method, settings_of
from ncbench.noise.ratio import noise_in_words
from ncbench.plugins.discovery import plugin_names
from ncbench.records.plugin_sources import BACKBONE, METHOD, Part
from ncbench.records.spec import RunSpec

MAX_CELLS = 100_000
SHOWN = 20


@dataclass(frozen=True)
class Claims:
    """The claims of some runs, in words.

    `grid` has the values of each axis. `missing` names the cells of the grid without a run, per dataset; `settings` the
    methods whose settings differ from the preset of the dataset; `files` and `backbone_files` the methods and backbones
    that are defined in files; `self_reported` those that were trained outside ncbench.
    """

    runs: int
    grid: Mapping[str, Sequence[str]]
    missing: Sequence[str]
    settings: Sequence[str]
    files: Sequence[str]
    backbone_files: Sequence[str]
    self_reported: Sequence[str] = ()

    @classmethod
    def of(cls, specs: Sequence[RunSpec], bundled: Container[str]) -> Claims:
        """Return the claims of runs with these `specs`; `bundled` has the digests of sources that come with them."""
        labels = told_apart((spec.dataset, spec.dataset_digest) for spec in specs)
        cells = [_cell(spec, labels[spec.dataset, spec.dataset_digest]) for spec in specs]
        grid = {axis: _values(cell[axis] for cell in cells) for axis in AXES}
        return cls(
            len(specs),
            grid,
            list(_missing(cells)),
            sorted({text for spec in specs for text in _settings(spec)}),
            _files(specs, METHOD, bundled),
            _files(specs, BACKBONE, bundled),
            sorted({spec.method for spec in specs if spec.budget.self_reported}),
        )

    def lines(self) -> Iterator[str]:
        """Yield the claims as lines of text."""
        for axis, values in self.grid.items():
            yield f"{axis}: {_listed(values)}"
        yield f"missing runs: {_listed(self.missing, '; ') or 'none'}"
        yield f"settings that differ from presets: {_listed(self.settings, '; ') or 'none'}"
        yield f"methods from files: {_listed(self.files) or 'none'}"
        if self.backbone_files:
            yield f"backbones from files: {_listed(self.backbone_files)}"
        if self.self_reported:
            yield f"self-reported, trained outside ncbench: {_listed(self.self_reported)}"


AXES = ("dataset", "noise", "method", "backbone", "budget", "seed")


def _files(specs: Sequence[RunSpec], part: Part, bundled: Container[str]) -> list[str]:
    files = {(part.name_in(spec), part.source_in(spec)) for spec in specs if part.source_in(spec)}
    notes = ((name, digest, "bundled, not run" if digest in bundled else "not bundled") for name, digest in files)
    return sorted(f"{name} (digest {digest}, {note})" for name, digest, note in notes)


def _cell(spec: RunSpec, dataset: str) -> dict[str, str]:
    return {
        "dataset": dataset,
        "noise": noise_in_words(spec.protocol, spec.noise),
        "method": spec.method,
        "backbone": spec.backbone,
        "budget": str(spec.budget),
        "seed": str(spec.seed),
    }


def _values(found: Iterator[str]) -> list[str]:
    return sorted(set(found), key=lambda text: (not text.isdigit(), len(text) if text.isdigit() else 0, text))


def _missing(cells: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Yield the cells of the grid of each dataset that have no run."""
    for dataset in _values(cell["dataset"] for cell in cells):
        own = {tuple(cell[axis] for axis in AXES) for cell in cells if cell["dataset"] == dataset}
        axes = [_values(cell[position] for cell in map(list, own)) for position in range(len(AXES))]
        size = 1
        for values in axes:
            size *= len(values)
        if size > MAX_CELLS:
            yield f"{dataset}: {size - len(own):,} of {size:,} cells of its grid"
            continue
        for cell in product(*axes):
            if cell not in own:
                yield " ".join((*cell[:-1], f"seed {cell[-1]}"))


def _settings(spec: RunSpec) -> Iterator[str]:
    """Yield how the settings of a run differ from the preset; methods that are defined elsewhere have none."""
    if spec.source or spec.budget.self_reported:
        return
    if spec.method not in plugin_names(GROUP):
        yield f"{spec.method}: unknown, as it is not installed"
        return
    try:
        preset = settings_of(load_method(spec.method, run_found=False), spec.dataset)
    except UserError as error:
        yield f"{spec.method}: unknown ({error})"
        return
    for key in sorted({*preset, *spec.settings}):
        ours, theirs = (_text(settings.get(key)) for settings in (preset, spec.settings))
        if ours != theirs:
            yield f"{spec.method} on {spec.dataset}: {key}={theirs} (preset {ours})"


def _text(value: Any) -> str:
    text = json.dumps(value, default=str)
    if isinstance(value, float) and value.is_integer():
        text = str(int(value))  # 1 and 1.0 are one setting
    return text if len(text) <= 80 else f"{text[:77]}..."


def _listed(values: Sequence[str], separator: str = ", ") -> str:
    shown = separator.join(values[:SHOWN])
    return f"{shown}{separator}and {len(values) - SHOWN} more" if len(values) > SHOWN else shown
