"""LaTeX tables over noise ratios, for papers."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from latex_text import check_latex

from ncbench import UserError, load_runs
from ncbench.report.pages.formats import format_published
from ncbench.report.pages.paper_table import CHOICES, paper_tables
from ncbench.report.tables.comparisons import comparisons
from ncbench.report.tables.versus_published import published_tables

Record = Callable[..., Path]


def body(text: str) -> list[list[str]]:
    """Return the cells of the rows below the headings."""
    return [
        [cell.strip() for cell in line.removesuffix(r" \\").split(" & ")]
        for part in text.split(r"\midrule")[1:]
        for line in part.splitlines()
        if line.endswith(r"\\")
    ]


def test_one_table_over_all_ratios(record: Record, tmp_path: Path) -> None:
    record(noise=0.0, protocol="clean")
    record(noise=0.4, seed=0)
    record(noise=0.4, seed=1)
    record(noise=0.6, method="b")
    text = paper_tables(comparisons(load_runs(tmp_path)), "ncbench report (commit 0123)")
    check_latex(text)
    assert text.startswith("% ncbench report (commit 0123)\n% \\usepackage{booktabs}\n")
    assert text.count(r"\begin{table*}") == 1
    assert r"under shuffle-images (unit: images); sgr, budget 4; mean of 1 to 2 seeds." in text
    assert r"\label{tab:toy-shuffle-images-sgr}" in text
    assert [row[:2] for row in body(text)] == [["clean", "triplet"], ["0.4", "triplet"], ["0.6", "b"]]
    assert r"{\scriptsize\,$\pm$\,0.0}" in body(text)[1][-1]
    assert r"\multicolumn{3}{c}{image $\to$ text} & \multicolumn{3}{c}{text $\to$ image}" in text


def test_best_and_second(record: Record, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        record(method=name)
    runs = load_runs(tmp_path)
    runs.loc[runs["method"] == "b", "i2t_r1"] += 2
    runs.loc[runs["method"] == "c", "i2t_r1"] += 1
    rows = {row[1]: row[2] for row in body(paper_tables(comparisons(runs), "x"))}
    assert rows["b"].startswith(r"\textbf{")
    assert rows["c"].startswith(r"\underline{")
    assert re.fullmatch(r"[0-9.]+", rows["a"])


def test_references_are_marked_and_never_best(record: Record, tmp_path: Path) -> None:
    record(method="a")
    record(method="knows")
    runs = load_runs(tmp_path)
    runs["sees_truth"] = runs["method"] == "knows"
    runs.loc[runs["method"] == "knows", "i2t_r1"] += 2
    text = paper_tables(comparisons(runs), "x")
    check_latex(text)
    (_, name, score, *_) = body(text)[-1]
    assert name == r"\textit{knows}$^\dagger$"
    assert "textbf" not in score
    assert r"$^\dagger$Sees the ground truth." in text


def test_chosen_columns_and_methods(record: Record, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        record(method=name)
    text = paper_tables(comparisons(load_runs(tmp_path)), "x", ["rsum", "i2t_r1", "seeds"], ["c", "a"])
    check_latex(text)
    assert [row[1] for row in body(text)] == ["c", "a"]
    assert "noise & method & rSum & R@1 & seeds" in text
    assert r" &  &  & \multicolumn{1}{c}{image $\to$ text} &  \\" in text


def test_unknown_columns_and_methods(record: Record, tmp_path: Path) -> None:
    record()
    tables = comparisons(load_runs(tmp_path))
    with pytest.raises(UserError, match=r"--columns: unknown 'R@1'; expected some of place, i2t_r1, "):
        paper_tables(tables, "x", ["R@1"])
    with pytest.raises(UserError, match=r"--rows: unknown 'l2rm'; expected some of triplet"):
        paper_tables(tables, "x", (), ["l2rm"])


def test_hostile_names(record: Record, tmp_path: Path) -> None:
    record()
    runs = load_runs(tmp_path).assign(variant=r"\input{x}_&%", dataset="<a>|$")
    check_latex(paper_tables(comparisons(runs), "100 % of\nit"))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (Debian: texlive-latex-recommended)")
def test_two_columns_without_an_overfull_box(record: Record, tmp_path: Path) -> None:
    for noise in (0.2, 0.4):
        for seed in (0, 1):
            record(noise=noise, seed=seed)
            record(noise=noise, seed=seed, method="a_method_of_a_long_name")
    tables = comparisons(load_runs(tmp_path))
    text = [
        paper_tables(tables, "x"),
        paper_tables(tables, "x", [name for name in CHOICES if name.startswith("i2t") or name in ("rsum", "seconds")]),
        format_published(published_tables("f30k", None)[:1], "latex"),
    ]
    document = [r"\documentclass[10pt,twocolumn]{article}", r"\usepackage{booktabs}", r"\begin{document}", *text]
    (tmp_path / "paper.tex").write_text("\n".join([*document, r"\end{document}"]))
    subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert "Overfull" not in (tmp_path / "paper.log").read_text(errors="replace")
