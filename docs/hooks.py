"""Pages of the documentation that are generated from the code: one per method, and their list."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from ncbench.method.base import Method
from ncbench.method.registry import load_method, method_names


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of the methods below their list."""
    pages = [{name: f"methods/{name}.md"} for name in method_names()]
    config.nav = [{"Methods": ["methods.md", *pages]} if "Methods" in entry else entry for entry in config.nav or []]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the methods."""
    for name in method_names():
        files.append(File.generated(config, f"methods/{name}.md", content=method_page(load_method(name))))
    return files


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Replace `<!-- methods -->` by the list of methods."""
    if page.file.src_uri != "methods.md":
        return markdown
    rows = [f"| [`{name}`](methods/{name}.md) | {text(summary(load_method(name)))} |" for name in method_names()]
    return markdown.replace("<!-- methods -->", "\n".join(["| method | what it does |", "| --- | --- |", *rows]))


def method_page(method: type[Method]) -> str:
    """Return the page of a method: its module docstring, what it is given, its settings with presets and sources."""
    about = inspect.getdoc(inspect.getmodule(method)) or summary(method)
    presets = list(method.presets)
    heads = ["setting", "default", *presets, "meaning", "source of the default"]
    lines = [f"# {method.name}", "", text(about), ""]
    if method.needs_truth:
        lines += ["It sees which training pairs are clean: it is a reference, not a contestant.", ""]
    if method.published_epochs:
        epochs = ", ".join(f"{name} {count}" for name, count in method.published_epochs.items())
        lines += [f"Epochs in its paper: {epochs} (`--budget paper`).", ""]
    lines += [f"| {' | '.join(heads)} |", f"| {' | '.join('---' for _ in heads)} |"]
    for entry in fields(method.Config):
        values = [method.presets[name].get(entry.name, "") for name in presets]
        meaning = (entry.metadata.get(key, "") for key in ("meaning", "source"))
        cells = [f"`{entry.name}`", short(entry.default), *map(short, values), *map(text, meaning)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Change one with `--set {method.name}.KEY=VALUE`.", ""])


def summary(method: type[Method]) -> str:
    """Return the first line of the docstring of a method."""
    return (inspect.getdoc(method) or "").partition("\n")[0]


def short(value: object) -> str:
    """Return a setting as text."""
    return f"{value:.4g}" if isinstance(value, float) else text(str(value))


def text(words: str) -> str:
    """Return text in which Markdown formats only lists and `code`."""
    parts = words.split("`")
    return "`".join(part if number % 2 else re.sub(r"([<>|_])", r"\\\1", part) for number, part in enumerate(parts))
