"""The record of one run: its spec, result, measurements, history and arrays, read and checked."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from ncbench.errors import UserError, brief
from ncbench.plugins.source_files import MAX_FILE_BYTES
from ncbench.records.arrays import (
    BELIEFS_FILE,
    FITTING_FILE,
    RANKS_FILE,
    TOP_K_FILE,
    load_beliefs,
    load_fitting,
    load_ranks,
    load_retrieved,
)
from ncbench.records.checked import checked, read_json
from ncbench.records.history import HistoryLine
from ncbench.records.measurements import Measurements
from ncbench.records.result import Result
from ncbench.records.spec import SCHEMA, RunSpec
from ncbench.runtime.archives import check_array_file
from ncbench.runtime.bounded import read_bytes

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset
    from ncbench.evaluation.beliefs import Beliefs
    from ncbench.evaluation.fitting import FittingRanks
    from ncbench.evaluation.retrieval import Ranks
    from ncbench.evaluation.top_k import Retrieved
    from ncbench.noise.base import Noise

SPEC_FILE, RESULT_FILE = "spec.json", "result.json"
MEASUREMENTS_FILE, HISTORY_FILE, ORIGIN_FILE = "measurements.json", "history.jsonl", "origin.json"
MODEL_FILE = "model.safetensors"

METHOD_FILE, BACKBONE_FILE = "method.py", "backbone.py"
"""The sources of a method and a backbone from files, in unpacked submissions. They are data: nothing runs them unless a
person names them."""

T = TypeVar("T")


class Record:
    """The record of the run in `folder`.

    Files are read when they are needed. Whatever reads one raises UserError, in one line, for a file that is missing or
    damaged, has another schema, or holds values of the wrong type.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def finished(self) -> bool:
        """Whether the run has a result."""
        return self.has(RESULT_FILE)

    def check_finished(self) -> None:
        """Raise UserError unless the run has a result."""
        if not self.finished:
            raise UserError(f"{self.folder} is not a finished run; give a folder that has a {RESULT_FILE}")

    @cached_property
    def spec(self) -> RunSpec:
        """What defines the run."""
        return self._read(SPEC_FILE, RunSpec.from_dict)

    @cached_property
    def result(self) -> Result:
        """What the run achieved."""
        return self._read(RESULT_FILE, Result.from_dict)

    @cached_property
    def measurements(self) -> Measurements | None:
        """What was measured while it was executed; None without the file."""
        if not self.has(MEASUREMENTS_FILE):
            return None
        return self._read(MEASUREMENTS_FILE, Measurements.from_dict)

    @cached_property
    def history(self) -> list[HistoryLine]:
        """The dev evaluations, in their order; empty without the file."""
        lines = self.history_lines()
        return self._valid(HISTORY_FILE, lambda: checked(lines, list[HistoryLine]))

    @cached_property
    def ranks(self) -> dict[str, Ranks]:
        """The test rank of every query, by the name of the metric: `test`, and `test_unfolded` beside folds."""
        return load_ranks(self.folder / RANKS_FILE)

    @cached_property
    def top_k(self) -> Retrieved | None:
        """What was retrieved first for every test query; None without the file."""
        return load_retrieved(self.folder / TOP_K_FILE) if self.has(TOP_K_FILE) else None

    @cached_property
    def fitting(self) -> FittingRanks | None:
        """The test ranks of all captions and images that fit; None without the file."""
        return load_fitting(self.folder / FITTING_FILE) if self.has(FITTING_FILE) else None

    @cached_property
    def beliefs(self) -> Beliefs | None:
        """What the method believed about every training pair; None without the file."""
        return load_beliefs(self.folder / BELIEFS_FILE, self.pairs) if self.has(BELIEFS_FILE) else None

    @cached_property
    def pairs(self) -> int | None:
        """The number of training pairs by the header of the stored noise; None without the file or a readable spec."""
        try:
            path = self.noise_path
        except UserError:
            return None
        if not path.is_file():
            return None
        try:
            return check_array_file(path).shape[0]
        except (IndexError, ValueError) as error:
            raise UserError(f"{path}: cannot be read as noise ({error}); restore it") from error

    @property
    def root(self) -> Path:
        """The folder of records that holds this one, as an absolute path."""
        parents = self.folder.resolve().parents
        return parents[min(2, len(parents) - 1)]

    @property
    def noise_path(self) -> Path:
        """Where the noise of the run is stored."""
        return noise_path(self.root, self.spec)

    @cached_property
    def noise(self) -> Noise:
        """The noise of the run. Raises UserError where another one is stored."""
        from ncbench.noise.storage import load_noise

        if not self.noise_path.exists() and self.origin() is not None:
            raise self.missing(f"noise/{self.noise_path.name}")
        noise, expected = load_noise(self.noise_path), self.spec.noise_digest
        if noise.digest != expected:
            raise UserError(
                f"{self.folder}: the stored noise has digest {noise.digest[:12]}, but the run used {expected[:12]}; "
                f"restore {self.noise_path}"
            )
        return noise

    def dataset(self, data_root: Path | None) -> Dataset:
        """Return the dataset of the run. Raises UserError if another version or content is available."""
        from ncbench.data.registry import load_recorded

        spec = self.spec
        dataset = load_recorded(spec.dataset, spec.dataset_version, spec.dataset_digest, data_root)
        if (dataset.version, dataset.digest) != (spec.dataset_version, spec.dataset_digest):
            remedy = "use the same data"
            if dataset.version != spec.dataset_version:
                remedy = f"version {spec.dataset_version} is gone, use the ncbench that recorded the run"
            raise UserError(
                f"{self.folder}: the run used {spec.dataset} version {spec.dataset_version} "
                f"({spec.dataset_digest[:12]}), found version {dataset.version} ({dataset.digest[:12]}); {remedy}"
            )
        return dataset

    def has(self, name: str) -> bool:
        """Return whether the record has a file of this name. Raises UserError where that cannot be told."""
        try:
            (self.folder / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise UserError(f"{self.folder / name}: cannot be read ({error.strerror})") from error
        return True

    def missing(self, name: str) -> UserError:
        """Return the error that a file which the record should have is missing: why, and what brings it back."""
        if self.spec.budget.self_reported:
            return UserError(f"{self.folder}: {name} is missing, as ncbench did not train this run")
        if self.origin() is None:
            return UserError(f"{self.folder}: {name} is missing, as in older records; run it again")
        words = f" --method-file {self.folder / METHOD_FILE}" if self.spec.source else ""
        words += f" --backbone-file {self.folder / BACKBONE_FILE}" if self.spec.backbone_source else ""
        return UserError(
            f"{self.folder}: {name} is missing, as submissions hold no weights, beliefs or noise; run it again with: "
            f"ncbench replay {self.folder}{words} --out DIR"
        )

    def source_text(self, file: str, what: str) -> str:
        """Return the source in METHOD_FILE or BACKBONE_FILE, that of a `what`. Raises UserError if it is unreadable."""
        path = self.folder / file
        try:
            return read_bytes(path, MAX_FILE_BYTES).decode()
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read as the source of a {what} ({error}); unpack it again") from error

    def content(self, name: str) -> dict[str, Any]:
        """Return the JSON object in a file of the record as it was written, of any version with this schema."""
        content = self._decode(name)
        found = content.get("schema") if isinstance(content, dict) else None
        if not isinstance(content, dict) or found != SCHEMA:
            raise UserError(f"{self.folder / name}: schema {reprlib.repr(found)} is not supported (expected {SCHEMA})")
        return content

    def history_lines(self) -> list[Any]:
        """Return the lines of the history as they were written; none without the file."""
        if not self.has(HISTORY_FILE):
            return []
        lines: list[Any] = self._decode(HISTORY_FILE, msgspec.json.Decoder().decode_lines)
        return lines

    def public_measurements(self) -> dict[str, Any]:
        """Return the measurements as they were written, {} without the file; the command has no absolute path.

        Such paths say where ncbench was installed, and where its user keeps data and records: their last part is left.
        """
        if self.measurements is None:
            return {}
        content = self.content(MEASUREMENTS_FILE)
        if self.measurements.environment.command:
            program, *words = self.measurements.environment.command
            content["environment"]["command"] = [Path(program).name, *map(_without_folders, words)]
        return content

    def origin(self) -> dict[str, Any] | None:
        """Return the name and the digest of the submission with the record; None for a run that was executed here."""
        if not self.has(ORIGIN_FILE):
            return None
        content = self._decode(ORIGIN_FILE)
        found: dict[str, Any] = self._valid(ORIGIN_FILE, lambda: checked(content, dict[str, Any]))
        return found

    def _read(self, name: str, parse: Callable[[Mapping[str, Any]], T]) -> T:
        return self._valid(name, lambda: parse(self.content(name)))

    def _valid(self, name: str, read: Callable[[], T]) -> T:
        try:
            return read()
        except ValueError as error:
            raise UserError(
                f"{self.folder / name}: is damaged or was written by another version of ncbench ({brief(error)}); "
                "restore it or delete its folder"
            ) from error

    def _decode(self, name: str, decode: Callable[[bytes], Any] = msgspec.json.decode) -> Any:
        path = self.folder / name
        try:
            return read_json(path, decode)
        except (OSError, ValueError) as error:
            problem = error.strerror if isinstance(error, OSError) else error
            raise UserError(
                f"{path}: cannot be read as a run record ({brief(problem)}); restore it or delete its folder"
            ) from error


def _without_folders(word: str) -> str:
    """Return a word of a command line, or the last part of an absolute path in it."""
    option, equals, value = word.rpartition("=")
    return f"{option}{equals}{Path(value).name}" if Path(value).is_absolute() else word


def noise_path(root: Path, spec: RunSpec) -> Path:
    """Return where a folder of records stores the noise of a run; all runs under this noise share the file."""
    return root / spec.dataset / "noise" / f"{spec.noise_digest[:12]}.npy"
