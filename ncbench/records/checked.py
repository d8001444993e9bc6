"""Content of JSON files: read within bounds, and checked against a type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ncbench.runtime.bounded import read_bytes

MAX_BYTES = 4 * 2**20
"""Of a JSON file in a record."""

MAX_DEPTH = 32
"""How deep lists and objects may be nested. ncbench writes no deeper ones; code that walks them may recurse."""


def read_json(path: Path, decode: Callable[[bytes], Any] = msgspec.json.decode, limit: int = MAX_BYTES) -> Any:
    """Return the decoded content of a JSON file of at most `limit` bytes.

    Raises OSError, and ValueError for other content and for lists and objects that are nested deeper than MAX_DEPTH.
    """
    try:
        content = decode(read_bytes(path, limit))
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    check_depth(content)
    return content


TOO_DEEP = f"its lists and objects are nested deeper than {MAX_DEPTH}"


def check_depth(content: object, depth: int = MAX_DEPTH) -> None:
    """Raise ValueError if lists and objects in `content` are nested deeper than `depth`."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        if not depth:
            raise ValueError(TOO_DEEP)
        for item in content:
            if isinstance(item, dict | list):
                check_depth(item, depth - 1)


def checked(content: object, kind: Any, place: str = "") -> Any:
    """Return decoded JSON as a `kind`: a struct, a dataclass, or another type that msgspec knows.

    Raises ValueError that names the field, below `place`, and the type that is expected.
    """
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise _naming_the_field(error, place) from error


def decoded(content: bytes | msgspec.Raw, kind: Any, place: str = "") -> Any:
    """Return JSON text as a `kind`, without building what the kind leaves as text. Raises ValueError as `checked`."""
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise _naming_the_field(error, place) from error
    except RecursionError:
        raise ValueError(f"{place}: {TOO_DEEP}" if place else TOO_DEEP) from None


def _naming_the_field(error: msgspec.ValidationError, place: str) -> ValueError:
    problem, _, below = str(error).partition(" - at ")
    place += below.strip("`").removeprefix("$")
    problem = f"{problem[:1].lower()}{problem[1:]}"
    return ValueError(f"{place.removeprefix('.')}: {problem}" if place else problem)
