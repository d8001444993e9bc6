"""Pages of the documentation, and the code in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from places import ROOT

PAGES = sorted((ROOT / "docs" / "pages").glob("*.md"))

FENCED = r"^```(\S*)(?: title=\"([^\"]+)\")?\n((?s:.*?))^```$"
IN_TABLE = r"^\|.*`(ncbench [^`\n]+)`.*$"
CODE = re.compile(f"{FENCED}|{IN_TABLE}", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """Code on a page: its language, the file that it shows, its text."""

    language: str
    title: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands of a block of shell, each in one line, without comments."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        lines = (shlex.join(shlex.split(line, comments=True)) for line in joined.splitlines())
        return [line for line in lines if line]


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a page, and the commands in the cells of its tables, in their order."""
    found = (match.groups(default="") for match in CODE.finditer(path.read_text()))
    return [Block("sh", "", command) if command else Block(*fenced) for *fenced, command in found]
