"""Files to begin a method from: they run as they are, and write over nothing."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from runs import prepare_run

from ncbench import UserError
from ncbench.cli import main
from ncbench.data.dataset import Dataset
from ncbench.method.registry import load_method
from ncbench.method.scaffold import method_files, package_files
from ncbench.plugins.scaffold import write_files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that calls `ncbench methods new` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(main, ["methods", "new", *words])


def test_a_new_method_runs_as_it_is(new: Callable[..., Result], tiny: Dataset, tmp_path: Path) -> None:
    result = new("soft_margin")
    assert result.stdout.splitlines() == [
        "wrote methods/soft_margin.py",
        "wrote methods/test_soft_margin.py",
        "Run it with: ncbench run --method methods/soft_margin.py --noise 0.4",
        "Check it with: ncbench methods check methods/soft_margin.py",
    ]
    method = load_method("soft_margin")  # found in ./methods
    assert (method.__name__, method.name) == ("SoftMargin", "soft_margin")
    found = prepare_run(tiny, tmp_path / "run", method, budget=2.0, settings={"batch_size": 8}).execute()
    assert (found.status, found.work.updates) == ("done", 12)
    listed = CliRunner().invoke(main, ["methods", "list"])
    assert "soft_margin" in listed.stdout
    assert listed.stderr == ""


def test_a_new_package_is_complete(new: Callable[..., Result], tmp_path: Path) -> None:
    result = new("mine", "--package")
    assert result.stdout.splitlines()[-3:] == [
        "Install it with: pip install -e ncbench-mine",
        "Then run it with: ncbench run --method mine --noise 0.4",
        "Check it with: ncbench methods check mine",
    ]
    folder = tmp_path / "ncbench-mine"
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["ncbench.methods"] == {"mine": "ncbench_mine:Mine"}
    assert project["tool"]["setuptools"]["packages"] == ["ncbench_mine"]
    method = load_method(str(folder / "src/ncbench_mine/__init__.py"))
    assert (method.__name__, method.name) == ("Mine", "mine")
    test = (folder / "tests/test_mine.py").read_text()
    ast.parse(test)
    assert 'METHOD = "mine"' in test
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(package_files("mine"))


def test_nothing_is_left_to_fill_in() -> None:
    for texts in (method_files("a_b"), package_files("a_b")):
        assert not any("$" in text for text in texts.values())


def test_nothing_is_written_over(new: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods/test_mine.py").write_text("precious")
    result = new("mine")
    message = "Error: methods/test_mine.py already exists; not overwritten. Choose another name or folder.\n"
    assert (result.exit_code, result.stderr) == (2, message)
    assert [path.name for path in (tmp_path / "methods").iterdir()] == ["test_mine.py"]
    assert new("mine", "--out", "elsewhere").exit_code == 0
    with pytest.raises(UserError, match="already exists"):
        write_files(tmp_path / "elsewhere", {"mine.py": ""})


@pytest.mark.parametrize("name", ["Mine", "my-method", "1st", "../x", "", "a.b"])
def test_names_that_cannot_be(name: str, new: Callable[..., Result]) -> None:
    result = new(name)
    rule = "is not a valid method name. Use a-z, 0-9 and '_', starting with a letter."
    assert (result.exit_code, result.stderr) == (2, f"Error: {name!r} {rule}\n")


def test_words_of_python(new: Callable[..., Result]) -> None:
    result = new("class")
    message = "Error: 'class' is not a valid method name: it is a Python keyword. Choose another name.\n"
    assert (result.exit_code, result.stderr) == (2, message)


def test_names_that_are_taken(new: Callable[..., Result]) -> None:
    result = new("triplet")
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: a method named 'triplet' already exists; see ncbench methods list.\n",
    )


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--package",)])
def test_the_test_that_comes_with_it_passes(words: tuple[str, ...], new: Callable[..., Result], tmp_path: Path) -> None:
    assert new("mine", *words, "--out", "new").exit_code == 0
    (test,) = (tmp_path / "new").rglob("test_mine.py")
    text = test.read_text().replace(
        'METHOD = "mine"', f"METHOD = {str(tmp_path / 'new/src/ncbench_mine/__init__.py')!r}"
    )
    space: dict[str, object] = {"__file__": str(test), "__name__": "test_mine"}
    exec(compile(text, str(test), "exec"), space)
    space["test_it_learns"](tmp_path / "runs")  # type: ignore[operator]
    space["test_it_keeps_the_contract"]()  # type: ignore[operator]
