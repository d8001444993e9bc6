"""Where the images of an imported dataset come from: ids, rows of the source, and names of files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ncbench.data.dataset import Origin
from ncbench.errors import UserError

ORIGINS_FILE = "origins.jsonl"

_PLACE = re.compile(r"(?s)(.*)(?:, row |:)(\d+)")


def origin_of(place: str, name: str = "", picture: Any = None) -> Origin:
    """Return the origin of a row at `place` (`FILE, row 3`, or `FILE:3` for a line), with its id and its picture.

    `picture` is a value of a column of pictures: bytes, or what `datasets` stores.
    """
    found = _PLACE.fullmatch(place)
    path = picture.get("path") if isinstance(picture, dict) else None
    file, row = (found[1], int(found[2])) if found else (place, -1)
    return Origin(name, file, row, path or "")


def lines_of(origins: Sequence[Origin]) -> bytes:
    """Return the origins as lines of JSON."""
    return "".join(json.dumps([one.id, one.file, one.row, one.picture]) + "\n" for one in origins).encode()


class StoredOrigins:
    """The origins of the images in a folder of the local store, which are read when they are needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def origin(self, split: str, image: int) -> Origin:
        """Return the origin of an image. Raises UserError if the store is damaged."""
        return _read(self._folder / split / ORIGINS_FILE)[image]


@lru_cache(maxsize=3)
def _read(path: Path) -> list[Origin]:
    try:
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        return [Origin(str(name), str(file), int(row), str(picture)) for name, file, row, picture in rows]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is damaged ({error}); delete the folder to convert the dataset again") from error
