"""Pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from places import ROOT

PAGES = sorted((ROOT / "docs" / "pages").glob("*.md"))

BLOCK = re.compile(r"^```(\S*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it shows, its text."""

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
    return [Block(*found) for found in BLOCK.findall(path.read_text())]
