"""The public names, and who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

import ncbench


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (module, names) of every import of a file; relative ones start with dots."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), tuple(alias.name for alias in node.names)


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    content: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return content


@pytest.mark.parametrize(
    "statement",
    [
        "import ncbench",
        "import ncbench.backbones, ncbench.data.registry, ncbench.method.registry, ncbench.noise",
        "import ncbench.records.store, ncbench.method.settings, ncbench.noise.ratio",
        "from ncbench.data.registry import dataset_names; dataset_names()",
        "from ncbench.backbones import check_backbone; check_backbone('sgr')",
        "from ncbench import Method, Settings, TrainingSettings, setting; TrainingSettings(lr=0.1)",
    ],
)
def test_loads_no_torch(statement: str) -> None:
    code = f"{statement}; import sys; sys.exit(sorted({{'torch', 'ot', 'matplotlib'}} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_loads_no_pandas() -> None:
    code = "import ncbench, sys; sys.exit(sorted({'pandas', 'torch'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_loads_no_scikit_learn() -> None:
    """It takes a second to load, and two methods need it."""
    code = "import ncbench.method.mixture, ncbench.training.run, sys; sys.exit('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_public_names_are_known_to_type_checkers() -> None:
    """They stand in the stub, which is all that says where they come from."""
    tree = ast.parse((ROOT / "ncbench" / "__init__.pyi").read_text())
    told = {alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert told == set(ncbench.__all__) <= set(dir(ncbench))


def test_public_names_resolve() -> None:
    assert ncbench.__all__ == sorted(ncbench.__all__)
    for name in ncbench.__all__:
        thing = getattr(ncbench, name)
        assert thing is not None
        assert getattr(thing, "__module__", thing.__name__).startswith("ncbench"), name


def test_other_names_do_not() -> None:
    with pytest.raises(AttributeError, match="Metod"):
        _ = ncbench.Metod
    with pytest.raises(ImportError):
        exec("from ncbench import Metod")


def test_version_is_that_of_the_project(pyproject: dict[str, Any]) -> None:
    assert pyproject["project"]["version"] == ncbench.__version__


@pytest.mark.parametrize("path", sources("ncbench"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_harness_imports_no_method(path: Path) -> None:
    for module, names in imports(path):
        assert module.split(".")[0] not in ("ncbench_methods", "methods"), module
        assert not module.startswith(".") or "methods" not in names
    assert "ncbench_methods" not in path.read_text()


@pytest.mark.parametrize("path", sources("methods"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_methods_use_public_names_only(path: Path) -> None:
    for module, names in imports(path):
        if module.split(".")[0] == "ncbench":
            assert module == "ncbench"
            assert set(names) <= set(ncbench.__all__)
            assert names


def test_packages_are_those_on_disk(pyproject: dict[str, Any]) -> None:
    project = pyproject["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT).as_posix() for path in sources("ncbench")}
    expected = {folder.replace("/", ".") for folder in folders}
    methods = {path.parent.relative_to(ROOT / "methods").as_posix() for path in sources("methods")}
    expected |= {("ncbench_methods." + folder.replace("/", ".")).removesuffix("..") for folder in methods}
    assert sorted(project["packages"]) == sorted({*expected, "ncbench_leaderboards"})
    assert project["package-dir"] == {"ncbench_leaderboards": "leaderboards", "ncbench_methods": "methods"}
    assert project["package-data"]["ncbench_leaderboards"] == ["published.csv"]
    assert (ROOT / "leaderboards" / "published.csv").is_file()


def test_entry_points_lead_somewhere(pyproject: dict[str, Any]) -> None:
    for entries in pyproject["project"]["entry-points"].values():
        for value in entries.values():
            module, _, attribute = value.partition(":")
            assert hasattr(import_module(module), attribute)


@pytest.mark.parametrize("package", ["ncbench", "methods"])
def test_packages_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_every_module_says_what_it_is() -> None:
    for path in [*sources("ncbench"), *sources("methods")]:
        assert ast.get_docstring(ast.parse(path.read_text())), path
