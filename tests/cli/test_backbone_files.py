"""A run with a backbone from a file, from its record to the replay of its submission."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from toy_backbones import LAYERS, TEXT, write_backbone

from ncbench import load_runs
from ncbench.backbones import registry
from ncbench.plugins.source_files import source_digest
from ncbench.records.record import Record
from ncbench.records.submission import read_submission

Cli = Callable[..., Result]
DIGEST = source_digest(TEXT.encode())


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    loaded: dict[str, Any] = {}
    monkeypatch.setattr(registry, "_loaded", loaded)
    return loaded


@pytest.fixture
def path(tmp_path: Path) -> str:
    return write_backbone(tmp_path / "mine.py")


@pytest.fixture
def recorded(path: str, toy_run: Cli, tmp_path: Path, nothing_loaded: dict[str, Any]) -> Path:
    """Return the folder of a run with a backbone from a file, which no name in this process leads to."""
    result = toy_run("--method", "quick", "--noise", 0.4, "--backbone", path)
    assert result.exit_code == 0, result.output
    nothing_loaded.clear()
    (folder,) = (tmp_path / "runs").glob("*/quick/*/")
    return folder


def refused(result: Result, message: str) -> None:
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())


def test_the_record(recorded: Path, cli: Cli, path: str, tmp_path: Path) -> None:
    spec = Record(recorded).spec
    assert (spec.backbone, spec.backbone_source) == ("means", DIGEST)
    assert cli("verify", recorded).exit_code == 0
    found = Record(recorded).measurements
    assert found is not None
    refused(cli("replay", recorded, "--device", "cpu"), "Name the file that defines it: --backbone-file FILE.")
    again = cli("replay", recorded, "--device", "cpu", "--backbone-file", path)
    assert again.stdout.splitlines()[-1].startswith("identical")
    other = write_backbone(tmp_path / "other.py", ("more layers", "other layers"))
    refused(
        cli("replay", recorded, "--backbone-file", other),
        f"recorded with backbone means {DIGEST}, found means {source_digest(Path(other).read_bytes())}; pass the "
        "original file with --backbone-file FILE",
    )


def test_two_versions_are_told_apart(recorded: Path, toy_run: Cli, tmp_path: Path) -> None:
    other = write_backbone(tmp_path / "mine.py", ("more layers", "other layers"))
    assert toy_run("--method", "quick", "--noise", 0.4, "--backbone", other).exit_code == 0
    frame = load_runs(tmp_path / "runs")
    assert sorted(frame["backbone"]) == ["means", "means"]
    assert sorted(frame["conditions"]) == sorted(
        f"backbone_source={digest[:8]}" for digest in (DIGEST, source_digest(Path(other).read_bytes()))
    )
    (tmp_path / "copy").mkdir()
    both = f"{other},{write_backbone(tmp_path / 'copy' / 'mine.py')}"
    refused(toy_run("--method", "quick", "--noise", 0.4, "--backbone", both), "two backbones are named 'means'")


def test_weights_are_read_with_the_same_file_only(
    recorded: Path, cli: Cli, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_loaded: dict[str, Any]
) -> None:
    words = ("eval", "--checkpoint", recorded, "--dataset", "tiny", "--device", "cpu")
    refused(cli(*words), "unknown backbone 'means'")
    monkeypatch.setenv("NCBENCH_PLUGINS", path)
    assert cli(*words).exit_code == 0
    nothing_loaded.clear()
    write_backbone(Path(path), ("more layers", "other layers"))
    refused(cli(*words), f"its backbone means has digest {DIGEST}, the one found here")


def test_the_submission(recorded: Path, cli: Cli, path: str, tmp_path: Path) -> None:
    words = ("submit", recorded, "--name", "b", "--contact", "me", "--out", tmp_path)
    refused(cli(*words), f"backbone means (digest {DIGEST}) is not found; give the unchanged file with --backbone-file")
    assert cli(*words, "--backbone-file", path).exit_code == 0
    file = tmp_path / "b.json"
    (source,) = read_submission(file).backbones.values()
    assert (source.name, source.text) == ("means", TEXT)
    told = cli("verify", file)
    assert f"backbones from files: means (digest {DIGEST}, bundled, not run)" in told.stdout
    unpacked = cli("unpack", file, "--out", tmp_path / "others")
    (copy,) = (tmp_path / "others").glob("*/quick/*/backbone.py")
    assert f"backbones from files are only run with --backbone-file; read them first, such as {copy}" in unpacked.stdout
    assert copy.read_text() == TEXT
    result = cli("replay", copy.parent, "--device", "cpu")
    refused(result, f"Its submission has a copy, {copy}; read it first.")
    for allowed in (("--backbone-file", path), ("--run-bundled",)):
        registry._loaded.clear()
        done = cli("verify", file, "--replay", 1, "--device", "cpu", *allowed)
        assert done.exit_code == 0, done.output
        assert "identical" in done.stdout
    copy.write_text(TEXT + "# changed\n")
    wrong = cli("verify", copy.parent)
    assert wrong.exit_code == 1
    assert f"backbone.py is not the file that defined the backbone, of which the spec has digest '{DIGEST}'" in (
        wrong.stdout
    )


def test_sources_that_do_not_fit(recorded: Path, cli: Cli, path: str, tmp_path: Path) -> None:
    words = ("--name", "b", "--contact", "c", "--out", tmp_path, "--backbone-file", path)
    assert cli("submit", recorded, *words).exit_code == 0
    file = tmp_path / "b.json"
    content = json.loads(file.read_text())
    content["backbones"][DIGEST]["text"] += "# more\n"
    file.write_text(json.dumps(content))
    refused(cli("verify", file), "the file of backbone means has digest")


def test_a_file_that_cannot_be_built(toy_run: Cli, tmp_path: Path) -> None:
    broken = write_backbone(tmp_path / "broken.py", (LAYERS, "        raise RuntimeError('no room')\n"))
    refused(
        toy_run("--method", "quick", "--noise", 0.4, "--backbone", broken),
        "backbone 'means' cannot be built for tiny: RuntimeError: no room (broken.py, line 22)",
    )
    stated = write_backbone(
        tmp_path / "stated.py", ("    # more functions\n", "    def image_work(self, n):\n        return -1\n")
    )
    refused(
        toy_run("--method", "quick", "--noise", 0.4, "--backbone", stated),
        "backbone 'means': FLOPs must be integers of at least 0, found -1",
    )


def test_estimates(path: str, toy_run: Cli, tmp_path: Path) -> None:
    words = ("--method", "quick", "--noise", 0.4, "--backbone", path, "--dry-run")
    assert toy_run(*words).exit_code == 0
    refused(toy_run(*words, "--assume", "cpu-1-thread"), "Known:")
