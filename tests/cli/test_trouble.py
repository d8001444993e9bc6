"""Write errors: a one-line message, records stay valid, and the same command resumes."""

from __future__ import annotations

import errno
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from sources import Source

from ncbench.cli import main
from ncbench.data.data_warning import DataWarning
from ncbench.data.dataset import Dataset, ImageFeatures

SAME = ("spec.json", "result.json", "ranks.npz", "model.safetensors")
WORDS = ("--method", "quick", "--noise", 0.4, "--budget", 6.0, "--checkpoint-every", 0)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refuse_from(number: int, code: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let flushes to disk fail, starting with flush `number`; return a list that grows with each flush."""
    flushed: list[int] = []
    flush = os.fsync

    def refuse(descriptor: int) -> None:
        flushed.append(descriptor)
        if len(flushed) >= number:
            raise OSError(code, os.strerror(code))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    return flushed


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_a_disk_that_fills_up_at_any_moment(
    toy_run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        writes = refuse_from(10**9, errno.ENOSPC, patch)
        assert toy_run(*WORDS, "--out", tmp_path / "whole").exit_code == 0
        total = len(writes)
    (whole,) = (tmp_path / "whole/tiny/quick").iterdir()
    assert toy_run("--method", "quick", "--noise", 0.2).exit_code == 0
    before = contents(tmp_path / "runs")
    assert total > 20
    for number in range(1, total + 1, 4):
        out = tmp_path / str(number)
        shutil.copytree(tmp_path / "runs", out)
        with monkeypatch.context() as patch:
            refuse_from(number, errno.ENOSPC, patch)
            result = toy_run(*WORDS, "--out", out)
        if result.exit_code == 0:  # nothing was left but to flush folders from which files were removed
            assert (out / "tiny/quick" / whole.name / "result.json").is_file()
            continue
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
        assert result.stderr.startswith((f"Error: {out / 'tiny'}", f"Error: {out / 'sweeps'}"))
        assert ": No space left on device" in result.stderr
        now = contents(out)
        assert all(now[path] == content for path, content in before.items())
        assert not list(out.rglob("*.tmp"))
        assert toy_run(*WORDS, "--out", out).exit_code == 0
        for name in SAME:
            assert (out / "tiny/quick" / whole.name / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.usefixtures("in_this_process")
def test_a_write_error_says_what_to_do(
    toy_run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        refuse_from(12, errno.EROFS, patch)
        result = toy_run(*WORDS)
    assert (
        ": Read-only file system. Finished runs are safe. Fix the problem and rerun the same command" in result.stderr
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(toy_run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir(mode=0o500)
    result = toy_run(*WORDS)
    assert (result.exit_code, "Permission denied" in result.stderr) == (2, True)


def test_an_error_of_the_method_about_a_file_of_its_own_is_the_runs(
    toy_run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/its/own/file")

    monkeypatch.setattr("ncbench.training.trainer.Trainer.train", fail)
    result = toy_run(*WORDS)
    assert result.exit_code == 1
    assert result.stderr.startswith("failed: quick with vse on tiny, shuffle-images 0.4, seed 0: FileNotFoundError(")


@pytest.mark.usefixtures("in_this_process")
def test_absurd_features_of_an_image_that_opening_did_not_look_at(
    toy_run: Callable[..., Result],
    register: Callable[..., None],
    tiny: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = tiny.splits["train"]
    rows = train.images.take(np.arange(len(train.images)))
    rows[5, 1, 1] = 1e20
    np.save(tmp_path / "rows.npy", rows)
    images = ImageFeatures([np.load(tmp_path / "rows.npy", mmap_mode="r")])
    splits = {**tiny.splits, "train": replace(train, images=images)}
    register("ncbench.datasets", "absurd", Source(replace(tiny, name="absurd", splits=splits)))
    monkeypatch.setattr("ncbench.data.feature_sizes.N_CHECKED_IMAGES", 2)
    result = toy_run(*WORDS, "--dataset", "absurd")
    assert result.exit_code == 1
    told = f"{tmp_path}/rows.npy, row 5: contains a number of size 1e+20, expected finite numbers up to 1e+06"
    assert f"failed: quick with vse on absurd, shuffle-images 0.4, seed 0: {told}" in result.stderr
    assert "Traceback" not in result.output
    assert not list((tmp_path / "runs").rglob("result.json"))


def test_warnings_that_differ_in_a_number_are_printed_once() -> None:
    @main.command("warn-often")
    def warn_often() -> None:
        for number in range(3):
            warnings.warn(f"error {number}.5e-0{number} after {1000 * number:,} steps", RuntimeWarning, stacklevel=1)
            warnings.warn(f"dataset a{number}: {number} rows", DataWarning, stacklevel=1)
        warnings.warn("error 7 elsewhere", RuntimeWarning, stacklevel=1)

    try:
        for _ in range(2):  # the second call begins anew
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                result = CliRunner().invoke(main, ["warn-often"])
            assert result.exit_code == 0, result.output
            assert result.stderr.splitlines() == [
                "Warning: error 0.5e-00 after 0 steps",
                *(f"Warning: dataset a{number}: {number} rows" for number in range(3)),
                "Warning: error 7 elsewhere",
            ]
    finally:
        main.commands.pop("warn-often")
