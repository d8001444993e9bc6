"""Files that must not change during a run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from runs import prepare_run
from toy_methods import Toy

from ncbench import UserError
from ncbench.data.dataset import Dataset
from ncbench.data.stamps import check_unchanged, stamp
from ncbench.records.progress import Progress
from ncbench.records.store import CHECKPOINT
from ncbench.training.run import Cadence

CHANGED = "changed while the run was training on it"


def rewrite(path: Path) -> None:
    path.write_bytes(b"DATA")
    os.utime(path, ns=(0, 1))


def exchange(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    facts = path.stat()
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [rewrite, exchange, lambda path: path.write_bytes(b"longer")])
def test_changes(change: Callable[[Path], object], tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b")]
    for file in files:
        file.write_bytes(b"data")
    stamps = stamp(files)
    check_unchanged(stamps)
    files[0].read_bytes()
    check_unchanged(stamps)
    change(files[1])
    with pytest.raises(UserError, match=f"^{files[1]}: {CHANGED}"):
        check_unchanged(stamps)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    stamps = stamp([tmp_path / "a"])
    (tmp_path / "a").unlink()
    with pytest.raises(UserError, match=r"a: .* is gone now \(No such file or directory\)"):
        check_unchanged(stamps)


@pytest.mark.parametrize("when", ["training", "testing"])
def test_a_run_whose_data_change_leaves_no_record_and_no_later_checkpoint(
    when: str, tiny: Dataset, tmp_path: Path
) -> None:
    file = tmp_path / "features.npy"
    file.write_bytes(b"data")
    folder = tmp_path / "run"
    seen: list[str] = []

    def checkpoints() -> set[str]:
        return {path.name for path in (folder / CHECKPOINT).glob("*.json")}

    before: list[set[str]] = []

    def spoil(progress: Progress) -> None:
        seen.append(progress.doing)
        if progress.doing == when and (when == "testing" or seen.count("training") == 8):
            before.append(checkpoints())
            rewrite(file)

    dataset = replace(tiny, files=stamp([file]))
    run = prepare_run(dataset, folder, Toy, on_progress=spoil, cadence=Cadence(0.0, 0.0))
    with pytest.raises(UserError, match=CHANGED):
        run.execute()
    assert not (folder / "result.json").exists()
    assert before == [checkpoints()] != [set()]
