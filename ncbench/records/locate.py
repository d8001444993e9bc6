"""Finding the record of one run by its folder or id, at any level of a folder of records."""

from __future__ import annotations

import re
from pathlib import Path

from ncbench.errors import UserError
from ncbench.records.record import Record
from ncbench.records.store import Store

_ID = re.compile(r"[0-9a-f]{1,12}")
MOST_NAMED = 8  # runs that a message names


def whole_root(folder: Path) -> Path:
    """Return the folder of all records of which `folder` is a dataset, a method or a run; else `folder` itself."""
    first = next(Store(folder).folders(), None)
    if first is None or Record(first).root == folder.resolve():
        return folder
    return Record(first).root


def find_run(name: str, root: Path) -> Record:
    """Return the record in the folder `name`, or the one in `root` whose id starts with `name`.

    `name` may also be a folder with a single run. Raises UserError unless there is exactly one.
    """
    found = list(Store(Path(name)).folders()) if Path(name).is_dir() else []
    asked = f"{name} has {len(found)} runs"
    if not found and _ID.fullmatch(name):
        found = [path for path in Store(root).folders() if path.name.startswith(name)]
        asked = f"{name}: {len(found)} runs in {root} match"
    if len(found) > 1:
        known = ", ".join(path.name for path in found[:MOST_NAMED])
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        raise UserError(f"{asked}; expected the id of one: {known}{more}")
    if not found:
        raise UserError(
            f"{name}: no such run; expected a run folder, such as {root}/scenes/l2rm/0123456789ab, or the id of a run "
            f"in {root} (see: ncbench runs --runs {root})"
        )
    return Record(found[0])
