"""Records that were verified before: not verified again, unless anything about them has changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from ncbench.records import remembered, table, verification
from ncbench.records.record import Record
from ncbench.records.remembered import Remembered
from ncbench.records.states import code_state
from ncbench.records.store import Store
from ncbench.records.table import read_row

QUICK = ("--method", "quick", "--noise", "0.2,0.4")


@pytest.fixture
def runs(toy_run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of two records; they are remembered although they are few and new."""
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "MIN_RECORDS", 1)
    monkeypatch.setattr(remembered, "SETTLED_SECONDS", -1e6)
    assert toy_run(*QUICK).exit_code == 0
    return tmp_path / "runs"


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that gets every record that is verified."""
    seen: list[Path] = []
    verify_run = verification.verify_run

    def verify(folder: Path, *args: Any) -> list[str]:
        seen.append(folder)
        return verify_run(folder, *args)

    monkeypatch.setattr(verification, "verify_run", verify)
    return seen


def test_records_are_verified_once(
    cli: Callable[..., Result], runs: Path, verified: list[Path], strict_json: Callable[[str], Any]
) -> None:
    first = cli("runs", "--runs", runs, "--json")
    assert len(verified) == 2
    for words in (("runs", "--json"), ("report", "--format", "summary")):
        assert cli(words[0], "--runs", runs, *words[1:]).exit_code == 0
    assert len(verified) == 2
    assert strict_json(cli("runs", "--runs", runs, "--json").stdout) == strict_json(first.stdout)


def test_rows_of_unchanged_records_are_not_read_again(
    cli: Callable[..., Result], runs: Path, strict_json: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def read(record: Record) -> dict[str, Any]:
        seen.append(record.folder)
        return read_row(record)

    monkeypatch.setattr(table, "read_row", read)
    first = cli("runs", "--runs", runs, "--json")
    assert len(seen) == 2
    for words in (("runs", "--json"), ("report", "--format", "summary")):
        assert cli(words[0], "--runs", runs, *words[1:]).exit_code == 0
    assert strict_json(cli("runs", "--runs", runs, "--json").stdout) == strict_json(first.stdout)
    assert len(seen) == 2
    monkeypatch.chdir(runs)  # rows name the folder as it is given now
    (row, *_) = strict_json(cli("runs", "--runs", ".", "--json").stdout)
    assert not Path(row["folder"]).is_absolute()
    result = seen[0] / "result.json"
    result.write_text(result.read_text() + " ")
    assert cli("runs", "--runs", runs).exit_code == 0
    assert seen[2:] == [seen[0]]


def test_a_folder_without_changes_is_listed_without_its_table(
    cli: Callable[..., Result], toy_run: Callable[..., Result], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cli("runs", "--runs", runs)
    load_runs = table.load_runs
    monkeypatch.setattr(table, "load_runs", lambda *args: pytest.fail("loaded"))
    again = cli("runs", "--runs", runs)
    assert (again.exit_code, again.stdout) == (0, first.stdout)
    monkeypatch.setattr(table, "load_runs", load_runs)
    assert toy_run("--method", "quick", "--noise", "0.6").exit_code == 0
    more = cli("runs", "--runs", runs).stdout
    assert (first.stdout.count("quick"), more.count("quick")) == (2, 3)


@pytest.mark.parametrize("name", ["spec.json", "history.jsonl", "ranks.npz", "noise"])
def test_a_changed_file_is_verified_even_if_its_times_were_put_back(
    name: str, cli: Callable[..., Result], runs: Path, verified: list[Path]
) -> None:
    assert cli("runs", "--runs", runs).exit_code == 0
    folder = verified[0]
    path = Store(runs).root / "tiny" / "noise" / _noise_of(folder) if name == "noise" else folder / name
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # as long as before
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    verified.clear()
    result = cli("runs", "--runs", runs)
    assert folder in verified
    assert result.exit_code == 1
    assert "fails verification" in result.stderr


def _noise_of(folder: Path) -> str:
    return Record(folder).noise_path.name


@pytest.mark.parametrize("change", ["added", "removed", "linked"])
def test_a_changed_folder_is_verified(
    change: str, cli: Callable[..., Result], runs: Path, verified: list[Path], tmp_path: Path
) -> None:
    assert cli("runs", "--runs", runs).exit_code == 0
    folder = verified[0]
    if change == "added":
        (folder / "origin.json").write_text("{}")
    elif change == "removed":
        (folder / "ranks.npz").unlink()
    else:
        shutil.move(folder, tmp_path / folder.name)
        folder.symlink_to(tmp_path / folder.name)
    verified.clear()
    cli("runs", "--runs", runs)
    assert verified == [folder]


def test_a_record_with_a_problem_is_named_every_time(
    cli: Callable[..., Result], runs: Path, verified: list[Path]
) -> None:
    (bad, good) = (record.folder for record in Store(runs).results())
    (bad / "ranks.npz").unlink()
    messages = {cli("runs", "--runs", runs).stderr for _ in range(3)}
    assert len(messages) == 1
    assert "fails verification" in messages.pop()
    assert (verified.count(bad), verified.count(good)) == (3, 1)


def test_records_are_verified_again_by_other_code(
    cli: Callable[..., Result], runs: Path, verified: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("runs", "--runs", runs).exit_code == 0
    monkeypatch.setattr(remembered, "code_state", lambda: "other")
    assert cli("runs", "--runs", runs).exit_code == 0
    assert len(verified) == 4


@pytest.mark.parametrize("content", [b"", b"\x82\xa4code\xa1x\xa7records\x01"])
def test_a_damaged_memory_is_none(
    content: bytes, cli: Callable[..., Result], runs: Path, verified: list[Path], tmp_path: Path
) -> None:
    assert cli("runs", "--runs", runs).exit_code == 0
    for memory in ("verified", "listings"):
        (file,) = (tmp_path / "cache" / memory).iterdir()
        file.write_bytes(content)
    result = cli("runs", "--runs", runs)
    assert (result.exit_code, result.stderr, len(verified)) == (0, "", 4)


def test_a_cache_that_cannot_be_written(
    cli: Callable[..., Result], runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "file"))
    assert cli("runs", "--runs", runs).exit_code == 0


@pytest.mark.parametrize(("name", "value"), [("SETTLED_SECONDS", 1e6), ("MIN_RECORDS", 3)])
def test_records_that_are_new_or_few_are_not_remembered(
    name: str,
    value: float,
    cli: Callable[..., Result],
    runs: Path,
    verified: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remembered, name, value)
    for _ in range(2):
        assert cli("runs", "--runs", runs).exit_code == 0
    assert len(verified) == 4


def test_verify_remembers_nothing(
    cli: Callable[..., Result], runs: Path, verified: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("runs", "--runs", runs).exit_code == 0
    monkeypatch.setattr(Remembered, "verify", lambda self, folder: pytest.fail("remembered"))
    assert cli("verify", runs).exit_code == 0


def test_the_state_of_the_code_imports_no_method() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from ncbench.records.states import code_state; code_state();"
        "assert not any(name.startswith('ncbench_methods') for name in sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert code_state() == code_state()
