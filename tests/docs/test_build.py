"""The documentation builds without a warning, and no link in it is broken."""

from __future__ import annotations

import html.parser
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from places import ROOT

from ncbench.method.registry import method_names


class Links(html.parser.HTMLParser):
    """What a page refers to, and the places in it that can be referred to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = {""}
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.targets += [found[name] for name in ("href", "src") if name in found and tag != "base"]
        self.ids |= {found[name] for name in ("id", "name") if name in found}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the documentation, built as it is published."""
    if find_spec("mkdocs") is None or find_spec("mkdocstrings") is None:
        pytest.skip("mkdocs is not installed (extra: docs)")
    folder = tmp_path_factory.mktemp("site")
    words = ["build", "--strict", "-f", str(ROOT / "docs" / "mkdocs.yml"), "-d", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # of the theme, on other tools
    command = [sys.executable, "-m", "mkdocs", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_links_lead_somewhere(site: Path) -> None:
    pages = {page: Links(page) for page in site.rglob("*.html") if page.name != "404.html"}
    for page, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            path = path / "index.html" if path.is_dir() else path
            assert path.is_file(), f"{page.relative_to(site)}: {target}"
            if path in pages:
                assert unquote(parts.fragment) in pages[path].ids, f"{page.relative_to(site)}: {target}"


def test_every_method_has_a_page(site: Path) -> None:
    overview = (site / "methods.html").read_text()
    for name in method_names():
        page = (site / "methods" / f"{name}.html").read_text()
        assert f'href="methods/{name}.html"' in overview
        assert f"--set {name}.KEY=VALUE" in page
        assert "batch_size" in page


def test_public_names_are_documented(site: Path) -> None:
    page = (site / "api.html").read_text()
    for words in ("partial_transport", "A training strategy around one or more backbones", "Retrieval"):
        assert words in page
