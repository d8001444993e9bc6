"""The HTML page: its content, escaping, and behaviour in a browser."""

from __future__ import annotations

import html.parser
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ncbench.records.table import load_runs
from ncbench.report import write_report
from ncbench.report.figures.style import Figure
from ncbench.report.pages.html import flatten, html_page, markdown_to_html
from ncbench.report.tables.comparisons import comparisons
from ncbench.report.tables.leaderboard import Leaderboard, leaderboards
from ncbench.report.tables.overview import overviews

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Record = Callable[..., Path]
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def varied(record: Record, tmp_path: Path) -> Path:
    """Return a folder of records: three methods that rank differently by each score, two ratios, and clean pairs."""
    for method, scores in {
        "triplet": (9.0, 20.0, 31.0, 11.0, 21.0, 30.0),
        "l2rm": (10.0, 19.0, 30.0, 12.0, 22.0, 32.0),
        "rcl": (100.0, 100.0, 100.0, 9.0, 20.0, 29.0),
    }.items():
        record(*scores, method=method, noise=0.0, protocol="clean", unit="clean")
        record(*scores, method=method, noise=0.2, seconds=None if method == "rcl" else 1234.0)
    record(method="triplet", noise=0.4)
    return tmp_path


def make(folder: Path) -> str:
    out = folder / "pages"
    write_report(leaderboards(load_runs(folder)), out, html=True, warn=pytest.fail)
    return (out / "index.html").read_text()


class Text(html.parser.HTMLParser):
    """The tags of a page, and its text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] not in ("script", "style"):
            self.text.append(data)


def test_it_needs_no_other_file(varied: Path) -> None:
    page = make(varied)
    found = Text(page)
    assert found.tags.count("img") >= 1
    assert all(link.startswith(("data:image/svg+xml;base64,", "#")) for link in found.links)
    assert "link" not in found.tags
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_it_holds_every_table_and_run(varied: Path) -> None:
    page = make(varied)
    assert page.count("<table>") == 4  # an overview, three comparisons
    assert page.count('<details class="run">') == 7
    for text in ("shuffle-images 0.2", "<strong>100.0</strong>", "<u>", "Missing: at 0.4: rcl, l2rm.", "1,234 s"):
        assert text in page
    assert "<dt>spec.noise_digest</dt><dd>nnnn" in page
    assert page.count("<em>Rank</em>") == 1


def test_the_same_records_give_the_same_page(varied: Path) -> None:
    assert make(varied) == make(varied)


def test_names_from_files_are_text(record: Record, tmp_path: Path) -> None:
    record(protocol=EVIL, settings={EVIL: EVIL})
    frame = load_runs(tmp_path).assign(variant=EVIL)
    figure = tmp_path / EVIL / "x.svg"
    figure.parent.mkdir(parents=True)
    figure.write_text("<svg/>")
    board = Leaderboard(EVIL, frame, overviews(frame), comparisons(frame))
    page = html_page([(board, [Figure(EVIL, "x.svg", EVIL, EVIL)])], tmp_path)
    assert Text(page).tags.count("script") == 1
    assert EVIL not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 8


def test_the_path_of_the_installation_is_not_shown(record: Record, tmp_path: Path) -> None:
    folder = record()
    path = folder / "measurements.json"
    environment = '"environment": {"command": ["/home/somebody/bin/ncbench", "run"], "cores": 2}'
    path.write_text(path.read_text().replace('"schema": 1', f'{environment}, "schema": 1'))
    page = make(tmp_path)
    assert "<dt>environment.command</dt><dd>ncbench run</dd>" in page
    assert "somebody" not in page


def test_facts_by_dotted_name() -> None:
    content = {"a": {"b": 1, "c": {"d": [1, "x"]}}, "e": 0.1234567891, "f": None}
    assert dict(flatten(content)) == {"a.b": "1", "a.c.d": "1 x", "e": "0.123457", "f": "None"}


def test_emphasis_and_code_of_the_legend() -> None:
    assert markdown_to_html("a *b\nc* & `d` <x>") == "a <em>b\nc</em> &amp; <code>d</code> &lt;x&gt;"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a headless Chromium; skip if there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: test)")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's own rule for root
    with sync_api.sync_playwright() as running:
        started = running.chromium.launch(executable_path=found, args=arguments)
        yield started
        started.close()


@pytest.fixture
def opened(browser: Browser, varied: Path) -> Iterator[Callable[..., Page]]:
    """Return a function that opens the page; nothing may be fetched, refused or thrown meanwhile."""
    make(varied)
    trouble: list[str] = []
    pages: list[Any] = []

    def open_page(**words: Any) -> Page:
        page = browser.new_page(**words)
        pages.append(page)
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: trouble.append(dialog.message))
        page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or trouble.append(asked.url))
        page.goto((varied / "pages" / "index.html").as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()
    assert trouble == []


def column(page: Page, table: int, number: int) -> list[str]:
    cells = page.locator("table").nth(table).locator(f"tbody td:nth-child({number})")
    return cells.all_text_contents()


def test_columns_are_sorted_by_a_click(opened: Callable[..., Page]) -> None:
    page = opened()
    table = page.locator("table").nth(2)
    assert column(page, 2, 1) == ["rcl", "l2rm", "triplet"]
    heads = table.locator("th button")
    heads.filter(has_text="t2i R@1").first.click()
    assert column(page, 2, 1) == ["l2rm", "triplet", "rcl"]  # as numbers: 12, 11, 9
    assert table.locator("th[aria-sort=descending]").inner_text().startswith("t2i R@1")
    heads.filter(has_text="t2i R@1").first.click()
    assert column(page, 2, 1) == ["rcl", "triplet", "l2rm"]
    heads.filter(has_text="method").click()
    assert column(page, 2, 1) == ["l2rm", "rcl", "triplet"]
    for _ in range(2):  # what has no number comes last either way
        heads.filter(has_text="time").click()
        assert column(page, 2, 1)[-1] == "rcl"
    assert table.locator("th[aria-sort]").count() == 1


def test_sorting_by_the_keyboard(opened: Callable[..., Page]) -> None:
    page = opened()
    page.locator("table").nth(2).locator("th button").first.focus()
    page.keyboard.press("Enter")
    assert column(page, 2, 1) == ["l2rm", "rcl", "triplet"]


def test_details_of_a_run_on_demand(opened: Callable[..., Page]) -> None:
    page = opened()
    fact = page.locator("dt", has_text="spec.noise_digest").first
    assert not fact.is_visible()
    page.locator("details.runs > summary").first.click()
    page.locator("details.run > summary").first.click()
    assert fact.is_visible()


def test_dark_and_light(opened: Callable[..., Page]) -> None:
    def ground(page: Page) -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    for scheme, dark in (("dark", True), ("light", False)):
        page = opened(color_scheme=scheme)
        assert (ground(page) < 200) == dark
        page.locator("#theme").click()
        assert (ground(page) < 200) != dark
        page.locator("#theme").click()
        assert (ground(page) < 200) == dark


def test_figures_are_drawn_and_fit(opened: Callable[..., Page]) -> None:
    page = opened(viewport={"width": 400, "height": 800})
    for image in page.locator("figure img").all():
        assert image.evaluate("image => image.complete && image.naturalWidth > 100")
        assert image.get_attribute("alt")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400  # wide tables scroll by themselves


def test_scripts_in_names_do_not_run(browser: Browser, record: Record, tmp_path: Path) -> None:
    record(protocol="<img src=x onerror=alert(1)>")
    frame = load_runs(tmp_path).assign(variant=EVIL)
    board = Leaderboard(EVIL, frame, overviews(frame), comparisons(frame))
    path = tmp_path / "page.html"
    path.write_text(html_page([(board, [])], tmp_path))
    page, alerts = browser.new_page(), []
    page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    assert page.locator("h2").inner_text() == EVIL
    assert page.locator("tbody td").first.inner_text() == EVIL
    # The policy holds even where escaping would fail.
    page.evaluate(
        "document.body.append(document.createRange().createContextualFragment('<script>alert(2)</scr' + 'ipt>'))"
    )
    assert alerts == []
    page.close()
