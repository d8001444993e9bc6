"""All leaderboards as one self-contained HTML page: no network, no other files.

Figures are embedded as images, which cannot run scripts. The template escapes all text, and a content security policy
allows the page's own script and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from ncbench.records.record import Record
from ncbench.report.figures.looks import Look, line_looks
from ncbench.report.figures.style import Figure, section_names
from ncbench.report.pages import legend, run_details
from ncbench.report.pages.embedded import data_block, figure_source, marker_path, page_colour
from ncbench.report.pages.text import unbroken
from ncbench.report.tables import answers, fitting, overview, versus_published
from ncbench.report.tables.comparisons import COLUMNS, COSTS, RESULTS, SEES_TRUTH, Comparison
from ncbench.report.tables.leaderboard import Leaderboard
from ncbench.report.tables.published_summary import published_summaries

ASSETS = files("ncbench.report") / "assets"


@dataclass(frozen=True)
class Cell:
    """The text of a cell; `mark` is `best` or `second` for the best values of a column."""

    text: str
    mark: str | None = None


@dataclass(frozen=True)
class Row:
    """A row of a table. Rows of a `variant` have its marker and can be filtered; references stay last."""

    cells: Sequence[Cell]
    variant: str = ""
    reference: bool = False
    seeds: int | None = None


@dataclass(frozen=True)
class Table:
    """A table of the page; the columns in `numbers` are right-aligned, `notes` stand below it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    numbers: frozenset[str]
    notes: Sequence[str] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    ratios: Sequence[str] = ()


@dataclass(frozen=True)
class ComparisonSection:
    """What the page shows of a comparison; `filters` are the values that it is filtered by.

    `fitting` has the results for all that fits, with a sentence about them in `agreement`; None where they are unknown.
    """

    title: str
    results: Table
    fitting: Table | None
    agreement: str
    costs: Table
    runs: Table
    settings: Mapping[str, str]
    command: str
    filters: Mapping[str, str]


@dataclass(frozen=True)
class EmbeddedFigure:
    """A figure of the page; `source` is a data URI."""

    title: str
    caption: str
    source: str


@dataclass(frozen=True)
class MethodLine:
    """A variant in the list of methods."""

    name: str
    about: str
    look: Look
    path: str
    colour: str


@dataclass(frozen=True)
class DatasetSection:
    """The section of a dataset; `anchor` is its id in the page."""

    name: str
    anchor: str
    summary: str
    answers: Table
    provenance: str
    methods: Sequence[MethodLine]
    choices: Mapping[str, Sequence[str]]
    data: str
    figures: Sequence[EmbeddedFigure]
    overviews: Sequence[Table]
    comparisons: Sequence[ComparisonSection]
    figure_sections: Mapping[str, Sequence[EmbeddedFigure]]
    summaries: Sequence[Table]
    published: Sequence[Table]
    problems: Sequence[str] = ()

    @property
    def numbers(self) -> Mapping[str, int]:
        """The number of each variant's marker."""
        return {line.name: number for number, line in enumerate(self.methods)}


def html_page(boards: Sequence[tuple[Leaderboard, Sequence[Figure]]], folder: Path) -> str:
    """Return the page of leaderboards and their figures, which are read from `folder`/<dataset>/.

    Raises UserError for a damaged record, OSError for a figure that cannot be read.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    script, style = (ASSETS.joinpath(name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(ASSETS.joinpath("page.html").read_text(encoding="utf-8"))
    sections = [_section(number, board, figures, folder) for number, (board, figures) in enumerate(boards)]
    return (
        template.render(
            sections=sections,
            style=Markup(style),
            script=Markup(script),
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            raw=Markup,
            answers_note=Markup(markdown_to_html(legend.ANSWERS_NOTE)),
            legend=Markup(markdown_to_html(legend.legend_of(board for board, _ in boards))),
            problems_legend=Markup(markdown_to_html(legend.PROBLEMS_LEGEND)),
            published_legend=Markup(markdown_to_html(legend.PUBLISHED_LEGEND)),
        )
        + "\n"
    )


def markdown_to_html(text: str) -> str:
    """Return markdown text as HTML; only *emphasis* and `code` are supported."""
    return re.sub(r"`(.+?)`", r"<code>\1</code>", re.sub(r"\*(.+?)\*", r"<em>\1</em>", escape(text), flags=re.DOTALL))


def _count(runs: int) -> str:
    return f"{runs} {'run' if runs == 1 else 'runs'}"


def _section(number: int, board: Leaderboard, figures: Sequence[Figure], folder: Path) -> DatasetSection:
    def embedded(section: str) -> list[EmbeddedFigure]:
        return [
            EmbeddedFigure(figure.title, figure.caption, figure_source(folder / board.dataset / figure.file))
            for figure in figures
            if figure.section == section
        ]

    found = run_details.provenance(board.runs["folder"])
    rows = [Row([*_texts(one.cells())]) for one in answers.answers(board.comparisons)]
    comparisons = [_comparison(each) for each in board.comparisons]
    return DatasetSection(
        name=board.dataset,
        anchor=f"dataset-{number}",
        summary=unbroken(answers.summary(board.comparisons, board.overviews)),
        answers=Table("Best method by noise", answers.COLUMNS, rows, frozenset(answers.NUMBERS)),
        provenance=f"{board.sources.rstrip('.') or _count(len(board.runs))}, {found.words}",
        methods=_methods(board),
        choices={
            "backbone": sorted({one.filters["backbone"] for one in comparisons}),
            "noise": sorted({one.filters["noise"] for one in comparisons}),
            "unit": sorted({one.filters["unit"] for one in comparisons}),
        },
        data=data_block(_data(board, found)),
        figures=embedded(""),
        overviews=[_overview(each) for each in board.overviews],
        comparisons=comparisons,
        figure_sections={section: embedded(section) for section in section_names(figures)},
        summaries=[
            Table(f"{one.title}: rSum", one.columns, _rows(one.rows), frozenset(one.columns[2:]))
            for one in published_summaries(board.published)
        ],
        published=[
            Table(
                each.title,
                versus_published.COLUMNS,
                _rows(each.cells()),
                frozenset(versus_published.NUMERIC_COLUMNS),
                each.footnotes(),
            )
            for each in board.published
        ],
        problems=board.problems,
    )


def _methods(board: Leaderboard) -> list[MethodLine]:
    """Return the variants of a board with their markers and a line about their method; references last."""
    pairs = board.runs.drop_duplicates("variant").sort_values(["sees_truth", "variant"])
    looks = line_looks(pairs["variant"], set(pairs.loc[pairs["sees_truth"].astype(bool), "variant"]))
    about = run_details.method_lines(pairs["method"])
    return [
        MethodLine(name, about[method], looks[name], marker_path(looks[name]), page_colour(looks[name]))
        for name, method in zip(pairs["variant"], pairs["method"], strict=True)
    ]


def _data(board: Leaderboard, found: run_details.Provenance) -> dict[str, Any]:
    """Return what the script of the page needs: the runs, differences of methods, and how to cite."""
    return {
        "dataset": board.dataset,
        "csv": board.runs.drop(columns="folder").to_csv(index=False, lineterminator="\n"),
        "bibtex": run_details.bibtex(board.dataset, found),
        "comparisons": [
            {
                "title": table.title,
                "rsums": {
                    str(n): round(float(r), 3) for n, r in zip(table.rows["variant"], table.rows["rsum"], strict=True)
                },
                "pairs": [
                    [one, other, round(d.mean, 2), round(d.low, 2), round(d.high, 2), d.seeds]
                    for (one, other), d in table.differences.items()
                ],
            }
            for table in board.comparisons
        ],
    }


def _overview(found: overview.Overview) -> Table:
    columns, *body = overview.rows(found)
    names = [str(name) for name in found.means.index]
    rows = [Row([*_texts(cells)], name, name in found.references) for name, cells in zip(names, body, strict=True)]
    notes = [f"Missing: {'; '.join(found.missing)}."] if found.missing else []
    return Table(found.title, columns, rows, frozenset(columns[1:]), notes, found.filters, columns[1:-2])


def _comparison(table: Comparison) -> ComparisonSection:
    filters = {"backbone": str(table.key["backbone"]), "noise": table.noise, "unit": str(table.key["unit"])}
    found = fitting.fitting_table(table)
    return ComparisonSection(
        table.title,
        _part(table, RESULTS),
        None if found is None else _fitting(table, found),
        "" if found is None else found.sentence,
        _part(table, COSTS, "Budget, time and memory: "),
        _runs(table),
        run_details.settings_in_words(table.runs),
        run_details.command(table.key, table.runs),
        filters,
    )


def _part(table: Comparison, columns: Sequence[str], about: str = "") -> Table:
    """Return some columns of a comparison, `about` before its title."""
    names = [COLUMNS[column] for column in columns]
    rows = []
    for row, cells in zip(table.rows.to_dict(orient="records"), table.cells(columns), strict=True):
        marked = [Cell(unbroken(text), table.mark(row, column)) for column, text in zip(columns, cells, strict=True)]
        rows.append(Row(marked, str(row["variant"]), bool(row["sees_truth"]), int(row["seeds"])))
    return Table(f"{about}{table.title}", names, rows, frozenset(names[1:]))


def _fitting(table: Comparison, found: fitting.FittingTable) -> Table:
    """Return the results for all that fits, in the order of the comparison."""
    names = tuple(fitting.COLUMNS.values())
    rows = [
        Row([*_texts(cells)], str(variant), bool(reference), int(seeds))
        for cells, variant, reference, seeds in zip(
            found.rows, table.rows["variant"], table.rows["sees_truth"], table.rows["seeds"], strict=True
        )
    ]
    return Table(f"All that fits: {table.title}", names, rows, frozenset(names[1:]))


def _runs(table: Comparison) -> Table:
    ordered = table.runs.sort_values(["sees_truth", "variant", "seed", "id"])
    rows = []
    for variant, folder, reference in zip(ordered["variant"], ordered["folder"], ordered["sees_truth"], strict=True):
        cells = run_details.run_row(Record(Path(folder)), f"{variant} ({SEES_TRUTH})" if reference else str(variant))
        rows.append(Row([*_texts(cells)], str(variant), bool(reference)))
    return Table(f"Runs: {table.title}", run_details.COLUMNS, rows, run_details.NUMBERS)


def _rows(rows: Sequence[Sequence[str]]) -> list[Row]:
    return [Row([*_texts(cells)]) for cells in rows]


def _texts(cells: Sequence[str]) -> list[Cell]:
    return [Cell(unbroken(text)) for text in cells]
