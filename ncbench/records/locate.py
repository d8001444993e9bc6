"""Finding the record of one run by its folder or id."""

from __future__ import annotations

import re
from pathlib import Path

from ncbench.errors import UserError
from ncbench.records.record import SPEC_FILE, Record

_ID = re.compile(r"[0-9a-f]{1,12}")


def find_run(name: str, root: Path) -> Record:
    """Return the record in the folder `name`, or the one in `root` whose id starts with `name`.

    Raises UserError unless there is exactly one.
    """
    if (Path(name) / SPEC_FILE).is_file():
        return Record(Path(name))
    matching = sorted(root.glob(f"*/*/{name}*/{SPEC_FILE}")) if _ID.fullmatch(name) else []
    found = [path.parent for path in matching]
    if len(found) > 1:
        raise UserError(f"{name}: {len(found)} runs in {root} match: {', '.join(path.name for path in found)}")
    if not found:
        raise UserError(
            f"{name}: no such run; expected a run folder, such as {root}/scenes/l2rm/0123456789ab, or the id of a run "
            f"in {root} (see: ncbench runs --runs {root})"
        )
    return Record(found[0])
