"""Content of JSON files, checked against a type."""

from __future__ import annotations

from typing import Any

import msgspec


def checked(content: object, kind: Any, place: str = "") -> Any:
    """Return decoded JSON as a `kind`: a struct, a dataclass, or another type that msgspec knows.

    Raises ValueError that names the field, below `place`, and the type that is expected.
    """
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        problem, _, below = str(error).partition(" - at ")
        place += below.strip("`").removeprefix("$")
        problem = f"{problem[:1].lower()}{problem[1:]}"
        raise ValueError(f"{place.removeprefix('.')}: {problem}" if place else problem) from error
