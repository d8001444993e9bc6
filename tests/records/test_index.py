"""The index: the same as reading, faster, and never believed where a file has changed."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncbench import UserError
from ncbench.records import index
from ncbench.records.index import indexed, indexed_results
from ncbench.records.spec import SCHEMA
from ncbench.records.store import Store

COUNT = 12


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a few records, which are enough for an index here."""
    monkeypatch.setattr(index, "FROM", 5)
    monkeypatch.setattr(index, "WORTH", 2)
    for number in range(COUNT):
        write(tmp_path / "f30k" / ("triplet", "l2rm")[number % 2] / f"{number:02d}", number)
    return tmp_path


def write(folder: Path, number: int, age: float = 100.0) -> None:
    """Write a record that was changed `age` seconds ago."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"result.json": {"schema": SCHEMA, "id": number}, "measurements.json": {"schema": SCHEMA, "s": number}}
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content))
        os.utime(folder / name, (time.time() - age,) * 2)


def counted(root: Path) -> tuple[list[Any], int]:
    """Return what is read, and how many records were not taken from the index."""
    read: list[Path] = []

    def reader(folder: Path) -> Any:
        read.append(folder)
        return json.loads((folder / "result.json").read_text())["id"]

    return list(indexed(root, "ids", ("result.json",), reader)), len(read)


def test_it_gives_what_reading_gives(root: Path) -> None:
    plain = list(Store(root).results())
    assert len(plain) == COUNT
    for _ in range(3):
        assert list(indexed_results(root)) == plain
    assert (root / "index" / "results.jsonl").is_file()
    assert list(Store(root).results()) == plain
    shutil.rmtree(root / "index")
    assert list(indexed_results(root)) == plain


@pytest.mark.parametrize("where", ["here", "."])
def test_a_relative_folder(where: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent if where == "here" else root)
    given = Path(root.name) if where == "here" else Path()
    for _ in range(2):
        assert list(indexed_results(given)) == list(Store(given).results())


def test_only_what_changed_is_read_again(root: Path) -> None:
    assert counted(root)[1] == COUNT
    found, read = counted(root)
    assert (read, len(found)) == (0, COUNT)
    folder = root / "f30k" / "l2rm" / "03"
    write(folder, 77, age=50)
    found, read = counted(root)
    assert read == 1
    assert dict(found)[folder] == 77


def test_a_change_that_keeps_the_size_is_seen(root: Path) -> None:
    counted(root)
    folder = root / "f30k" / "l2rm" / "03"
    write(folder, 9, age=99)
    assert dict(counted(root)[0])[folder] == 9


def test_what_has_just_changed_is_not_relied_on(root: Path) -> None:
    folder = root / "f30k" / "l2rm" / "03"
    write(folder, 3, age=0.5)
    counted(root)
    assert counted(root)[1] == 1


def test_runs_that_are_gone_are_gone(root: Path) -> None:
    counted(root)
    shutil.rmtree(root / "f30k" / "l2rm")
    found, read = counted(root)
    assert (len(found), read) == (COUNT // 2, 0)
    assert (root / "index" / "ids.jsonl").read_text().count("l2rm") == 0


def test_measurements_may_come_and_go(root: Path) -> None:
    list(indexed_results(root))
    (root / "f30k" / "l2rm" / "03" / "measurements.json").unlink()
    assert [m for f, _, m in indexed_results(root) if f.name == "03"] == [{}]


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda old: b"",
    lambda old: b"\xff\n",
    lambda old: old[:-20],
    lambda old: old.replace(b'"f30k/l2rm/03"', b'"f30k/l2rm/05"'),
    lambda old: old.partition(b"\n")[2],
    lambda old: b"[]\n" + old,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_none(damage: Callable[[bytes], bytes], root: Path) -> None:
    expected, _ = counted(root)
    path = root / "index" / "ids.jsonl"
    path.write_bytes(damage(path.read_bytes()))
    assert counted(root) == (expected, COUNT)
    assert counted(root) == (expected, 0)


def test_another_version_is_none(root: Path) -> None:
    assert [c for _, c in indexed(root, "x", ("result.json",), lambda folder: 1)] == [1] * COUNT
    assert [c for _, c in indexed(root, "x", ("result.json",), lambda folder: 2)] == [1] * COUNT
    assert [c for _, c in indexed(root, "x", ("result.json",), lambda folder: 2, version=2)] == [2] * COUNT


def test_small_folders_have_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "FROM", COUNT + 1)
    counted(root)
    assert not (root / "index").exists()


def test_who_may_not_write_does_without(root: Path) -> None:
    (root / "index").write_text("a file where a folder belongs")
    assert len(counted(root)[0]) == COUNT


def test_a_damaged_record_is_told(root: Path) -> None:
    (root / "f30k" / "l2rm" / "03" / "result.json").write_text("{")
    with pytest.raises(UserError, match=r"l2rm/03/result\.json: cannot be read as a run record"):
        list(indexed_results(root))


def test_no_folder_holds_nothing(tmp_path: Path) -> None:
    assert list(indexed_results(tmp_path / "nosuch")) == []
