"""Parts of reports that an earlier report computed from the same records, kept in the user's cache.

A part is found by a digest of all that it depends on: the identities of the files of its records, as
`ncbench.records.remembered` has them, what its runs are called, and the code. A part with a record that is not
remembered is computed every time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ncbench.data.kept import Kept
from ncbench.records.states import code_state, digest_of
from ncbench.report.figures.style import Figure, figure_files
from ncbench.runtime.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("variant", "conditions")
"""The columns of a run that do not follow from its record alone, if it has no problems."""

T = TypeVar("T")


class Drawn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Figures, and the content of their files by name."""

    figures: list[Figure]
    files: dict[str, bytes]


class Computed:
    """The parts that earlier reports computed. `states` identify the files of each record, by its folder.

    Without states, all parts are computed.
    """

    def __init__(self, states: Mapping[str, str] | None = None) -> None:
        self._states = states or {}
        self._kept = Kept("reports")

    def value(self, part: str, runs: pd.DataFrame, kind: type[T], compute: Callable[[], T]) -> T:
        """Return what `compute` returns, a `kind` that msgpack can hold, for `part` of the `runs` (of `load_runs`).

        `part` says all that the result depends on besides the runs. Raises what `compute` raises.
        """
        digest = self._digest(part, runs)
        found = self._kept.get(digest, kind) if digest else None
        if found is None:
            found = compute()
            if digest:
                self._kept.put(digest, found)
        return found

    def figures(
        self, part: str, runs: pd.DataFrame, folder: Path, draw: Callable[[], Sequence[Figure]]
    ) -> list[Figure]:
        """Return what `draw` returns for `part` of the `runs`: figures whose files it writes into `folder`.

        Raises what `draw` raises, and OSError.
        """
        drawn = self.value(f"{part} {version('matplotlib')}", runs, Drawn, lambda: _drawn(draw(), folder))
        for name, content in drawn.files.items():
            _put(folder / Path(name).name, content)
        return drawn.figures

    def tidy(self) -> None:
        """Remove the parts that no report used for a long time."""
        self._kept.tidy()

    def _digest(self, part: str, runs: pd.DataFrame) -> str:
        """Return the digest of all that a part depends on; "" if one of its records may have changed."""
        states = [self._states.get(folder, "") for folder in runs["folder"]]
        if not all(states):
            return ""
        return digest_of((os.fsencode(part), code_state(), states, *(runs[name].tolist() for name in NAMES)))


def _drawn(figures: Sequence[Figure], folder: Path) -> Drawn:
    stems = [(folder.parent / figure.file).with_suffix("") for figure in figures]
    return Drawn([*figures], {file.name: file.read_bytes() for stem in stems for file in figure_files(stem)})


def _put(path: Path, content: bytes) -> None:
    """Write a file, unless it has this content."""
    with suppress(OSError):
        if path.stat().st_size == len(content) and path.read_bytes() == content:
            return
    write_atomic(path, lambda file: file.write(content))
