"""The example package: built as a wheel, installed into an empty folder, and used from the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from places import ROOT

SOURCE = ROOT / "examples" / "plugin_package"
NCBENCH = "from ncbench.cli import main; main()"

Call = Callable[..., "subprocess.CompletedProcess[str]"]


def pip(*words: object) -> None:
    """Call pip, without the network."""
    quiet = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    command = [sys.executable, "-m", "pip", str(words[0]), *quiet, *map(str, words[1:])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with only the package, installed from its wheel."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(SOURCE, folder / "source")  # building creates folders next to the source
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder / "dist", folder / "source")
    (wheel,) = (folder / "dist").glob("*.whl")
    pip("install", "--target", folder / "site", wheel)
    return folder / "site"


@pytest.fixture
def call(installed: Path, tmp_path: Path) -> Call:
    """Return a function that calls ncbench in an empty folder, in a process that can import the package."""

    def run(*words: object, site: Path | None = installed) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(site or "")}
        command = [sys.executable, "-c", NCBENCH, *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    return run


def test_everything_in_it_is_run(call: Call, tmp_path: Path) -> None:
    words = ["--method", "soft-margin,triplet", "--dataset", "dots", "--protocol", "carousel", "--backbone", "vse"]
    done = call("run", *words, "--noise", "0.2", "--seed", 0, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    results = {path.parts[-3]: json.loads(path.read_text()) for path in tmp_path.glob("runs/dots/*/*/result.json")}
    assert set(results) == {"soft-margin", "triplet"}
    spec = results["soft-margin"]["spec"]
    assert (spec["protocol"], spec["unit"], spec["settings"]["lr"]) == ("carousel", "images", 1e-2)
    assert results["soft-margin"]["mismatched"] == 0.2  # no image keeps its place
    assert results["soft-margin"]["metrics"]["test"]["rsum"] > 300  # chance is 152
    # Also in other processes.
    again = call("run", *words, "--noise", "0.4", "--jobs", 2, "--budget", 1)
    assert again.returncode == 0, again.stderr


def test_it_is_listed_and_only_where_it_is_installed(call: Call) -> None:
    for group, name, shipped in (
        ("methods", "soft-margin", "triplet"),
        ("data", "dots", "scenes"),
        ("noise", "carousel", "shuffle-images"),
    ):
        done = call(group, "list", "--json")
        assert {name, shipped} <= {row["name"] for row in json.loads(done.stdout)}
        without = call(group, "list", "--json", site=None)
        assert name not in {row["name"] for row in json.loads(without.stdout)}
    missing = call("run", "--method", "soft-margn")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith("Error: unknown method 'soft-margn'. Did you mean 'soft-margin'? Known: ")


@pytest.mark.slow
def test_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(SOURCE / "tests", tmp_path / "tests")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_a_package_that_is_broken_is_skipped(call: Call, installed: Path, tmp_path: Path) -> None:
    site = tmp_path / "broken"
    shutil.copytree(installed, site)
    (site / "ncbench_example" / "noise.py").write_text("import nothing_like_it\n")
    done = call("noise", "list", site=site)
    assert done.returncode == 0
    assert "shuffle-images" in done.stdout
    expected = "cannot be loaded: ModuleNotFoundError: No module named 'nothing_like_it'\n"
    assert done.stderr == f"Warning: noise protocol 'carousel' (ncbench_example.noise:CAROUSEL) {expected}"
    assert call("run", "--method", "soft-margin", "--dataset", "dots", "--noise", 0, "--budget", 1, "--backbone", "vse",
                site=site).returncode == 0  # fmt: skip


def test_its_readme_names_what_is_there() -> None:
    text = (SOURCE / "README.md").read_text()
    for path in ("pyproject.toml", *(f"src/ncbench_example/{name}.py" for name in ("method", "dataset", "noise"))):
        assert f"({path})" in text
        assert (SOURCE / path).is_file()
