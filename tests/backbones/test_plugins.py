"""Backbones as plugins: by path, by name, by entry point; and what is refused."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from toy_backbones import FUNCTIONS, LAYERS, TEXT, write_backbone

from ncbench import UserError
from ncbench.backbones import VectorBackbone, registry
from ncbench.backbones.registry import (
    KIND,
    backbone_class,
    backbone_names,
    check_backbone,
    defines_backbone,
    load_backbone,
    resolve,
)
from ncbench.cli import main
from ncbench.method.registry import method_names
from ncbench.plugins.source_files import source_digest


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_loaded", {})


def test_by_path(tmp_path: Path) -> None:
    path = write_backbone(tmp_path / "mine.py")
    check_backbone(path)
    assert resolve(path) == "means"
    found = backbone_class("means")  # as runs refer to it
    assert (found.__name__, found.source) == ("Means", source_digest(TEXT.encode()))
    check_backbone("means")
    assert resolve("means") == "means"
    write_backbone(tmp_path / "mine.py", ("more layers", "other layers"))
    resolve(path)
    assert backbone_class("means").source != found.source


def test_by_name_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_backbone(tmp_path / "backbones" / "mine.py")
    assert "means" in backbone_names()
    assert "means" not in method_names()
    with pytest.raises(UserError, match="only run where you name it"):
        backbone_class("means")  # a record may name it
    assert resolve("means") == "means"
    assert backbone_class("means").source
    listed = CliRunner().invoke(main, ["backbones", "list"])
    assert "Means of regions and of words" in listed.stdout


def test_by_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCBENCH_PLUGINS", write_backbone(tmp_path / "mine.py"))
    assert backbone_class("means").name == "means"
    assert "means" not in method_names()


def test_by_entry_point(register: Callable[..., None]) -> None:
    class Mine(VectorBackbone):
        """Somebody's."""

        name = "theirs"

        def _encode_images(self, images):
            raise NotImplementedError

        def _encode_captions(self, tokens, lengths):
            raise NotImplementedError

    register(KIND.group, "theirs", Mine)
    check_backbone("theirs")
    assert load_backbone("theirs") is Mine
    assert (backbone_class("theirs"), Mine.source) == (Mine, "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([('    name = "means"\n', "")], "must define one subclass of ncbench.backbones.Backbone with a name, found"),
        ([('"means"', '"vse"')], "'vse' is the name of a built-in backbone; choose another name"),
        ([('"means"', '"scan"')], "'scan' is the name of a built-in backbone"),
        ([('"means"', '"a mean"')], "'a mean' is not a valid name"),
        ([("def _encode_captions", "def _encode")], "Means does not implement _encode_captions"),
        ([("import torch\n", "import torch_of_mine\n")], "cannot be loaded: ModuleNotFoundError"),
        ([(LAYERS, f"{LAYERS}        x ="), ], "cannot be loaded: SyntaxError"),
    ],
)  # fmt: skip
def test_files_that_are_no_backbone(changes: list[tuple[str, str]], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        resolve(write_backbone(tmp_path / "mine.py", *changes))


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown backbone 'sgrr'\. Did you mean 'sgr' or 'sgraf'"):
        check_backbone("sgrr")
    with pytest.raises(UserError, match=r"backbone file .*gone.py: file not found"):
        check_backbone(str(tmp_path / "gone.py"))


def test_entry_points_of_something_else(register: Callable[..., None]) -> None:
    register(KIND.group, "odd", dict)
    with pytest.raises(UserError, match="backbone 'odd' is <class 'dict'>, not a subclass of"):
        load_backbone("odd")

    class Nameless(VectorBackbone):
        _encode_images = _encode_captions = None  # type: ignore[assignment]

    register(KIND.group, "nameless", Nameless)
    with pytest.raises(UserError, match="backbone 'nameless': Nameless has no name; set the class attribute `name`"):
        load_backbone("nameless")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("class A(Backbone): pass", True),
        ("class A(backbones.VectorBackbone): pass", True),
        ("class A(SGR): pass", True),
        ("class A(Base):\n    def _encode_images(self): pass", True),
        ("class A(SingleNetwork): pass", False),
        ("A = Backbone()", False),
    ],
)
def test_what_looks_like_a_backbone(source: str, found: bool) -> None:
    assert defines_backbone(ast.parse(source).body[0]) == found


def test_a_new_backbone_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["backbones", "new", "two_towers"])
    assert result.stdout.splitlines() == [
        "wrote backbones/two_towers.py",
        "wrote backbones/test_two_towers.py",
        "Check it with: ncbench backbones check backbones/two_towers.py",
        "Run it with: ncbench run --method triplet,l2rm --backbone backbones/two_towers.py --noise 0.4",
    ]
    assert CliRunner().invoke(main, ["backbones", "check", "backbones/two_towers.py"]).exit_code == 0
    assert (load_backbone("two_towers").__name__, load_backbone("two_towers").name) == ("TwoTowers", "two_towers")
    compile((tmp_path / "backbones" / "test_two_towers.py").read_text(), "test", "exec")
    for name, complaint in (
        ("vse", "already exists; see ncbench backbones list"),
        ("A b", "not a valid backbone name"),
    ):
        refused = CliRunner().invoke(main, ["backbones", "new", name])
        assert (refused.exit_code, complaint in refused.stderr) == (2, True)
    again = CliRunner().invoke(main, ["backbones", "new", "two_towers", "--out", "backbones"])
    assert again.exit_code == 2


def test_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert FUNCTIONS in TEXT
    found = CliRunner().invoke(main, ["backbones", "list", "--json"])
    assert '"name": "vse-infinity"' in found.stdout
