"""Judging LaTeX without compiling it."""

from __future__ import annotations

import re


def check_latex(text: str) -> None:
    """Hold `text` against what compiles: known commands, balanced braces, cells that fit the columns."""
    known = {
        "begin", "end", "centering", "caption", "label", "toprule", "midrule", "bottomrule", "pm", "small",
        "scriptsize",
        "setlength", "tabcolsep", "multicolumn", "cmidrule", "to", "textbf", "textit", "underline", "dagger", "ddagger",
        "par", "smallskip", "textwidth", "sloppy", "mbox", "tiny",
        "textbackslash", "textasciicircum", "textasciitilde", "textless", "textgreater", "textbar",
    }  # fmt: skip
    assert text.isascii()
    text = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert set(re.findall(r"\\([a-zA-Z]+)", text)) <= known
    bare = re.sub(r"\\[{}$&#%_,]", "", text)
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    bare = re.sub(r"\$(\\pm|\\to|\^\\d?dagger)\$", "", bare)
    assert not set("#%_^~<>|$") & set(bare)
    width = 0
    for line in bare.splitlines():
        found = re.fullmatch(r"\\begin\{tabular\}\{((?:[lr]|p\{[0-9.]+cm\})+)\}", line)
        width = len(re.sub(r"\{.*?\}", "", found[1])) if found else width
        if line.endswith(r"\\"):
            spanned = sum(int(count) - 1 for count in re.findall(r"\\multicolumn\{(\d+)\}", line))
            assert line.count("&") == width - 1 - spanned
            assert line.lstrip()[:1] not in ("[", "*")
    assert text.count(r"\begin{table*}") == text.count(r"\end{table*}") == text.count(r"\toprule")
