"""What a record was run on: its spec, and its data once more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncbench.data.registry import load_recorded
from ncbench.errors import UserError
from ncbench.records.spec import RunSpec
from ncbench.records.store import read_record

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset

TEXTS = ("dataset", "dataset_version", "dataset_digest", "protocol", "noise_digest", "method", "backbone")


def read_spec(folder: Path) -> RunSpec:
    """Return the spec of the run in `folder`. Raises UserError for one that is damaged or of another version."""
    path = folder / "spec.json"
    record = read_record(path)
    try:
        spec = RunSpec.from_dict(record)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: is of another version of ncbench ({error}).") from error
    for name in TEXTS:
        if not isinstance(getattr(spec, name), str):
            raise UserError(f"{path}: its {name!r} is {getattr(spec, name)!r}, which is no text; restore it.")
    return spec


def read_measurements(folder: Path) -> dict[str, Any]:
    """Return the measurements of the run in `folder`, {} where there are none; commands without the path to ncbench.

    Raises UserError for a file that is damaged.
    """
    path = folder / "measurements.json"
    measured = read_record(path) if path.is_file() else {}
    command = measured.get("environment", {}).get("command")
    if command:  # records of old tell where ncbench was installed, which is nobody's business
        measured["environment"]["command"] = [Path(command[0]).name, *command[1:]]
    return measured


def load_data(folder: Path, spec: RunSpec, data_root: Path | None) -> Dataset:
    """Return the dataset that the run in `folder` was run on. Raises UserError where that at hand is another one."""
    dataset = load_recorded(spec.dataset, spec.dataset_version, spec.dataset_digest, data_root)
    if (dataset.version, dataset.digest) != (spec.dataset_version, spec.dataset_digest):
        raise UserError(
            f"{folder}: was run on {spec.dataset} version {spec.dataset_version} ({spec.dataset_digest[:12]}), here is "
            f"version {dataset.version} ({dataset.digest[:12]}); it needs the data that it was run on."
        )
    return dataset
