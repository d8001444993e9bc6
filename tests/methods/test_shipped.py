"""What holds for every shipped method: presets and settings that say what they are."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from places import ROOT

import ncbench
from ncbench.method.registry import GROUP, load_method
from ncbench.method.settings import Settings
from ncbench.plugins.discovery import plugin_names

NAMES = plugin_names(GROUP)


def test_the_field_is_here() -> None:
    contestants = {"bicro", "crcl", "decl", "gsc", "infonce", "l2rm", "mscn", "ncr", "rce", "rcl", "triplet"}
    assert set(NAMES) >= {"oracle", *contestants, "coteaching", "gce", "rince"}


@pytest.mark.parametrize("name", NAMES)
def test_presets_name_settings_that_exist(name: str) -> None:
    method = load_method(name)
    types = get_type_hints(method.Config)
    assert "scenes" in method.presets
    for preset in method.presets.values():
        config = method.Config(**preset)
        assert preset
        for name, wanted in types.items():
            value = getattr(config, name)
            if get_origin(wanted) is Literal:
                assert value in get_args(wanted)
            else:
                assert isinstance(value, wanted)


@pytest.mark.parametrize("name", NAMES)
def test_settings_say_what_they_mean_and_where_they_are_from(name: str) -> None:
    method = load_method(name)
    for entry in fields(method.Config):
        assert entry.metadata["meaning"]
        assert entry.metadata["source"]


@pytest.mark.parametrize("name", NAMES)
def test_bounds_of_settings_are_kept(name: str) -> None:
    method = load_method(name)
    assert issubclass(method.Config, Settings)
    with pytest.raises(ValueError, match=r"^lr must be above 0, found 0$"):
        method.Config(lr=0)
    with pytest.raises(ValueError, match=r"^batch_size must be at least 2, found 1$"):
        method.Config(batch_size=1)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_is_described_in_a_line_and_at_length(name: str) -> None:
    method = load_method(name)
    line = (inspect.getdoc(method) or "").partition("\n")[0]
    assert 20 < len(line) < 120
    assert len((inspect.getdoc(inspect.getmodule(method)) or "").splitlines()) > 3


@pytest.mark.parametrize("path", sorted((ROOT / "methods").glob("*.py")), ids=lambda path: path.stem)
def test_methods_import_public_names_of_ncbench_and_no_other_method(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        assert not any(name.startswith(("ncbench.", "ncbench_methods")) for name in names), names
        if module.startswith("ncbench_methods"):  # an underscore says that it is no method
            assert module.startswith("ncbench_methods._"), module
        elif module.startswith("ncbench"):
            assert (module, set(names) - set(ncbench.__all__)) == ("ncbench", set())
