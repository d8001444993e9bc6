"""TOML files that users write."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ncbench.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Return the content of the TOML file in `path`. Raises UserError, with `what` it is, for none and a bad one."""
    try:
        return tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{what} {path}: {error.strerror}; give the path of a TOML file.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{what} {path}: is no TOML: {error}.") from error
