"""Local links in pages that people read on a code host lead to files and headings, and paths that they name exist."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from pages import PAGES
from places import ROOT

FOLDERS = ("benchmarks", "examples", "leaderboards", "ncbench")
READ = [*sorted(ROOT.glob("*.md")), *PAGES, *(path for name in FOLDERS for path in sorted((ROOT / name).rglob("*.md")))]
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(<?([^)>\s]+)>?\)|<a href=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
PATH = re.compile(r"(?:benchmarks|examples|ncbench|tests)/[\w./-]*")


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub and mkdocs make them, and of names that mkdocs lists."""
    names = re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    headings = HEADING.findall(FENCED.sub("", page.read_text()))
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {*names, *(re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain)}


@pytest.mark.parametrize("page", READ, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_local_links_lead_somewhere(page: Path) -> None:
    text = INLINE.sub("", FENCED.sub("", page.read_text()))
    for found in LINK.findall(text):
        parts = urlsplit("".join(found))
        if parts.scheme:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert target.exists(), f"{page.name}: {parts.geturl()}"
        if parts.fragment:
            assert parts.fragment in anchors_of(target), f"{page.name}: {parts.geturl()}"


@pytest.mark.parametrize("page", READ, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_paths_that_are_named_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":  # names what was there before, too
        return
    for path in filter(PATH.fullmatch, INLINE.findall(FENCED.sub("", page.read_text()))):
        assert (ROOT / path).exists() or (page.parent / path).exists(), f"{page.name}: {path}"
