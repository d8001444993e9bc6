"""Checking folders that `datasets.Dataset.save_to_disk` wrote, before `datasets` reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ncbench.data.imported.arrow.messages import count_rows
from ncbench.data.stand_ins import check_data_file
from ncbench.errors import UserError

STATE, SPLITS, INFO = "state.json", "dataset_dict.json", "dataset_info.json"
DATASET_MARKERS = (STATE, SPLITS)
"""A folder with one of these files was saved: a dataset, or one for each of several splits."""

MAX_JSON_BYTES = 2**26


def check_saved(folder: Path) -> None:
    """Raise UserError for data files that are too large for memory, or not in `folder`, and for absurd descriptions.

    Raises OSError, LookupError, TypeError, ValueError and ArrowException for damaged files.
    """
    for file in _data_files(folder):
        if not file.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{folder}: refers to {file}, which is not in the folder; save the dataset again")
        check_data_file(file)
        count_rows(file)


def _data_files(folder: Path) -> Iterator[Path]:
    """Yield the files that hold the rows of a folder."""
    parts = [folder] if (folder / STATE).exists() and (folder / INFO).exists() else _split_folders(folder)
    for part in parts:
        check_data_file(part / INFO, MAX_JSON_BYTES)
        yield from (part / each["filename"] for each in _read(part / STATE)["_data_files"])


def _split_folders(folder: Path) -> list[Path]:
    return [folder / name for name in _read(folder / SPLITS)["splits"]]


def _read(path: Path) -> Any:
    check_data_file(path, MAX_JSON_BYTES)
    return json.loads(path.read_bytes())
