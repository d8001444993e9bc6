"""The HTML page: its content, escaping, and behaviour in a browser."""

from __future__ import annotations

import html.parser
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from places import FIXTURES

from ncbench.evaluation.retrieval import Ranks
from ncbench.records.arrays import RANKS_FILE, save_ranks
from ncbench.records.table import load_runs
from ncbench.report import write_report
from ncbench.report.figures.style import Figure
from ncbench.report.pages.html import html_page, markdown_to_html
from ncbench.report.tables.comparisons import comparisons
from ncbench.report.tables.leaderboard import Leaderboard, leaderboards
from ncbench.report.tables.overview import overviews

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Record = Callable[..., Path]
RESULTS = 2 + 3  # the table of results at 0.2, behind answers, the overview, and three tables of clean pairs
OPEN_ALL = "document.querySelectorAll('details').forEach((one) => (one.open = true))"
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
    assert all(link.startswith(("data:image/svg+xml", "#")) for link in found.links)
    assert "link" not in found.tags
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_it_holds_every_table_and_run(varied: Path) -> None:
    page = make(varied)
    assert page.count("<table") == 1 + 1 + 3 * 3  # answers, an overview, three comparisons with costs and runs
    for text in (
        "shuffle-images 0.2",
        "<strong>100.0</strong>",
        "<u>",
        "Missing: at 0.4: rcl, l2rm.",
        "1,234\N{NO-BREAK SPACE}s",
    ):
        assert text in page
    assert page.count("<em>Rank</em>") == 1
    assert len(re.findall('<tr data-method="rcl">', page.partition("Every comparison")[2])) == 2  # its runs
    assert "settings: batch size 8, lr 0.002; backbone sgr: embed 16" in page
    assert "spec." not in page.partition("</style>")[2].partition("<script>")[0]  # words, not keys


def test_the_answer_is_first(varied: Path) -> None:
    text = " ".join(Text(make(varied)).text)
    assert text.index("At 40% noise (shuffle-images), use triplet") < text.index("best") < text.index("Filter")
    assert text.index("How to read the tables") > text.index("Every comparison")


def test_where_the_runs_come_from_and_how_to_make_them(record: Record, tmp_path: Path) -> None:
    for seed, commit in ((0, "abcdef0123456789+"), (1, "1234567aaaaaaaaa")):
        path = record(seed=seed, method="l2rm") / "measurements.json"
        content = json.loads(path.read_text())
        content |= {"started": 86400.0 * (365 + seed), "environment": {"commit": commit, "device": "cpu"}}
        path.write_text(json.dumps(content))
    page = make(tmp_path)
    assert "2 runs, recorded 1971-01-01 to 1971-01-02, commits 1234567, abcdef0+." in page
    command = "ncbench run --dataset toy --method l2rm --backbone sgr --noise 0.4 --protocol shuffle-images"
    assert f"{command} --seed 0,1 --budget 4" in page
    assert "Rematches mismatched pairs by partial optimal transport" in page
    assert "@misc{ncbench-toy," in json.loads(re.search('class="data">(.*?)</script>', page)[1])["bibtex"]


def test_the_same_records_give_the_same_page(varied: Path) -> None:
    assert make(varied) == make(varied)


def test_names_from_files_are_text(record: Record, tmp_path: Path) -> None:
    record(protocol=EVIL, settings={EVIL: EVIL})
    frame = load_runs(tmp_path).assign(variant=EVIL, method=EVIL)
    figure = tmp_path / EVIL / "x.svg"
    figure.parent.mkdir(parents=True)
    figure.write_text("<svg/>")
    board = Leaderboard(EVIL, frame, overviews(frame), comparisons(frame))
    page = html_page([(board, [Figure(EVIL, "x.svg", EVIL, EVIL)])], tmp_path)
    assert Text(page).tags.count("script") == 2  # the program, and data that are never run
    assert EVIL not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 8


def test_the_path_of_the_installation_is_not_shown(record: Record, tmp_path: Path) -> None:
    folder = record()
    path = folder / "measurements.json"
    environment = '"environment": {"command": ["/home/somebody/bin/ncbench", "run"], "cores": 2}'
    path.write_text(path.read_text().replace('"schema": 1', f'{environment}, "schema": 1'))
    page = make(tmp_path)
    assert "somebody" not in page


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
    cells = page.locator("table").nth(table).locator(f"tbody tr > :nth-child({number})")
    return [text.strip() for text in cells.all_text_contents()]


def test_columns_are_sorted_by_a_click(opened: Callable[..., Page]) -> None:
    page = opened()
    table = page.locator("table").nth(RESULTS)
    assert column(page, RESULTS, 1) == ["rcl", "l2rm", "triplet"]
    heads = table.locator("th button")
    heads.filter(has_text="t2i R@1").first.click()
    assert column(page, RESULTS, 1) == ["l2rm", "triplet", "rcl"]  # as numbers: 12, 11, 9
    assert table.locator("th[aria-sort=descending]").inner_text().startswith("t2i R@1")
    heads.filter(has_text="t2i R@1").first.click()
    assert column(page, RESULTS, 1) == ["rcl", "triplet", "l2rm"]
    heads.filter(has_text="method").click()
    assert column(page, RESULTS, 1) == ["l2rm", "rcl", "triplet"]
    assert table.locator("th[aria-sort]").count() == 1
    page.locator("details").nth(0).evaluate(
        "all => document.querySelectorAll('details').forEach((one) => (one.open = true))"
    )
    for _ in range(2):  # what has no number comes last either way
        page.locator("table").nth(RESULTS + 1).locator("th button").filter(has_text="time").click()
        assert column(page, RESULTS + 1, 1)[-1] == "rcl"


def test_sorting_by_the_keyboard(opened: Callable[..., Page]) -> None:
    page = opened()
    page.locator("table").nth(RESULTS).locator("th button").first.focus()
    page.keyboard.press("Enter")
    assert column(page, RESULTS, 1) == ["l2rm", "rcl", "triplet"]


def test_details_of_runs_on_demand(opened: Callable[..., Page]) -> None:
    page = opened()
    command = page.locator("code.command").first
    assert not command.is_visible()
    page.locator("details.runs > summary").first.click()
    assert command.is_visible()


def test_references_stay_last(browser: Browser, record: Record, tmp_path: Path) -> None:
    record(method="triplet")
    record(*[1.0] * 6, method="a")
    record(*[90.0] * 6, method="oracle", told_truth=True)
    make(tmp_path)
    page = browser.new_page()
    page.goto((tmp_path / "pages" / "index.html").as_uri())
    for heading, expected in (("rSum", ["triplet", "a"]), ("rSum", ["a", "triplet"]), ("method", ["a", "triplet"])):
        page.locator("table").nth(1).locator("th button").filter(has_text=heading).click()
        assert column(page, 1, 1) == [*expected, "oracle (sees ground truth)"]
    page.close()


def test_filters(opened: Callable[..., Page]) -> None:
    page = opened()
    shown = page.locator(".comparison:visible h4")
    page.locator("[name=noise]").select_option("shuffle-images 0.2")
    assert shown.all_text_contents() == ["toy: shuffle-images 0.2 (unit: images), sgr, budget 4"]
    visible = page.locator(".overview thead th:visible").all_text_contents()
    assert visible == ["method", "0.2", "average", "retained"]
    page.locator("[name=method][value=rcl]").uncheck()
    assert "1 of 3 comparisons and 2 of 3 methods" in page.locator(".filtered").inner_text()
    assert not page.locator("tr[data-method=rcl]:visible").count()
    page.locator("[name=seeds]").fill("2")
    assert not page.locator(".comparison tr[data-seeds]:visible").count()
    page.locator("button[type=reset]").click()
    page.locator(".comparison:not([hidden]) >> nth=2").wait_for()
    assert page.locator(".comparison:not([hidden])").count() == 3
    assert page.locator("tr[data-method=rcl]:visible").count()


def test_two_methods_compared(browser: Browser, record: Record, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for method, share in (("a", 0.9), ("b", 0.3)):
        drawn = Ranks(*((np.where(rng.random(300) < share, 0, 50),) for _ in "xy"))
        found = drawn.retrieval()
        values = [getattr(side, key) for side in (found.i2t, found.t2i) for key in ("r1", "r5", "r10")]
        save_ranks(record(*values, method=method) / RANKS_FILE, drawn)
    make(tmp_path)
    (table,) = comparisons(load_runs(tmp_path))
    page = browser.new_page()
    page.goto((tmp_path / "pages" / "index.html").as_uri())
    for one, other in (("a", "b"), ("b", "a")):
        page.locator("[name=one]").select_option(one)
        page.locator("[name=other]").select_option(other)
        expected = table.difference(one, other)
        assert expected is not None
        cells = page.locator(".compared tbody td").all_text_contents()
        assert cells[0] == f"{expected.mean:+.1f}"
        assert cells[1] == f"{expected.low:+.1f} to {expected.high:+.1f}"
        assert cells[3] == "yes, a is better"
    page.close()


def test_downloads(opened: Callable[..., Page], varied: Path) -> None:
    page = opened()
    content = {}
    for kind in ("csv", "json", "bib"):
        with page.expect_download() as caught:
            page.locator(f"[data-kind={kind}]").click()
        assert caught.value.suggested_filename == f"ncbench-runs.{kind}"
        content[kind] = Path(caught.value.path()).read_text()
    assert content["csv"] == (varied / "pages" / "toy" / "runs.csv").read_text()
    frame = load_runs(varied)
    rows = json.loads(content["json"])
    assert [(row["id"], row["rsum"]) for row in rows] == list(zip(frame["id"], frame["rsum"], strict=True))
    assert content["bib"].startswith("@misc{ncbench-toy,")


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1280, "dark"), (3840, "light")])
def test_accessibility(width: int, scheme: str, opened: Callable[..., Page]) -> None:
    page = opened(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page.evaluate(OPEN_ALL)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.add_script_tag(content=(FIXTURES / "axe" / "axe.min.js").read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    problems = {one["id"]: [node["html"] for node in one["nodes"]] for one in found["violations"]}
    assert problems == {}
    assert len(found["passes"]) > 20


def test_head_and_first_column_stay_in_sight(opened: Callable[..., Page]) -> None:
    page = opened(viewport={"width": 400, "height": 900})
    box = page.locator(".wide:has(table)").nth(RESULTS)
    box.evaluate("box => { box.style.maxHeight = '4rem'; box.scrollTo(200, 40); }")
    edges = box.evaluate("box => [box.getBoundingClientRect().left, box.getBoundingClientRect().top]")
    head, name = box.locator("thead th").nth(1), box.locator("tbody th").first
    assert box.evaluate("box => box.scrollLeft") > 50
    assert name.evaluate("cell => cell.getBoundingClientRect().left") == pytest.approx(edges[0], abs=1)
    assert head.evaluate("cell => cell.getBoundingClientRect().top") == pytest.approx(edges[1], abs=1)


def test_figures_are_dark_on_a_dark_page(opened: Callable[..., Page]) -> None:
    for scheme, dark in (("dark", True), ("light", False)):
        page = opened(color_scheme=scheme)
        for _ in range(2):
            picture = page.locator("figure img").first.screenshot()
            pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("L"))
            assert (np.median(pixels) < 60) == dark
            page.locator("#theme").click()
            dark = not dark


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
    assert page.locator("h2").first.inner_text() == EVIL
    assert page.locator(".comparison tbody th").first.inner_text().strip() == EVIL
    # The policy holds even where escaping would fail.
    page.evaluate(
        "document.body.append(document.createRange().createContextualFragment('<script>alert(2)</scr' + 'ipt>'))"
    )
    assert alerts == []
    page.close()
