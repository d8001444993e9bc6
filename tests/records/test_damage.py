"""Every reader of records on damaged and hostile files: UserError in one line, soon, and without much memory."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncbench import UserError
from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import Beliefs
from ncbench.evaluation.fitting import rank_fitting
from ncbench.evaluation.retrieval import Ranks
from ncbench.evaluation.top_k import Retrieved
from ncbench.noise.drawing import draw
from ncbench.noise.storage import save_noise
from ncbench.records.arrays import save_beliefs, save_fitting, save_ranks, save_retrieved
from ncbench.records.progress import read_progress
from ncbench.records.record import Record
from ncbench.records.store import Store
from ncbench.records.submission import bundle, read_submission, specs_of, write_submission
from ncbench.records.table import load_runs
from ncbench.records.verification import verify_run
from ncbench.report.figures.training_curves import load_training_curves
from ncbench.report.pages.run_details import run_row
from ncbench.report.tables.published import parse, with_units_and_nets
from ncbench.runtime.files import read_toml
from ncbench.sweeps.record import SweepRecord

Make = Callable[..., Path]
JSON_FILES = ("spec.json", "result.json", "measurements.json", "history.jsonl", "origin.json", "status.json")
ARRAY_FILES = ("ranks.npz", "retrieved.npz", "fitting.npz", "beliefs.npz")

HOSTILE = (
    "null",
    "[]",
    "{}",
    '"x"',
    "-1",
    "1e400",
    "NaN",
    "9" * 5000,
    "9" * 30,
    '"\\ud800"',
    '"\\u0000"',
    '"' + "x" * 100_000 + '"',
    "[" * 100_000,
    "[" * 200 + "]" * 200,
    '{"a":' * 200 + "1" + "}" * 200,
    "true",
    "-0.0",
    '"../../x"',
    '"\\u001b[2J"',
)


@pytest.fixture
def whole(record: Make, tiny: Dataset, tmp_path: Path) -> Path:
    """Return the folder of a record that has every file, in the folder of records tmp_path."""
    noise = draw(tiny, "shuffle-images", 0.4, 0)
    folder = record(
        schema=1,
        noise_digest=noise.digest,
        dataset="tiny",
        beliefs={name: {"auc": 0.5} for name in ("detection", "soft_labels")},
    )
    save_noise(noise, Record(folder).noise_path)
    pairs, rng = len(noise.claimed), np.random.default_rng(0)
    ranks = Ranks(*((rng.integers(0, 8, size),) for size in (8, 16)))
    save_ranks(folder / "ranks.npz", ranks)
    shown = rng.integers(0, 8, (16, 5))
    save_retrieved(folder / "retrieved.npz", Retrieved(shown[:8], shown, np.arange(16) // 2))
    fitting = rank_fitting(rng.random((8, 16)), np.arange(16), np.arange(16) // 2)
    save_fitting(folder / "fitting.npz", fitting)
    clean = noise.clean(tiny.splits["train"].true)
    save_beliefs(
        folder / "beliefs.npz", Beliefs(rng.random(pairs), rng.random(pairs), None, np.arange(2), None, clean, None)
    )
    line = {"backbone": "sgr", "share": 1.0, "work": 5, "updates": 3, "loss": 0.5, "seconds": 1.0}
    result = json.loads((folder / "result.json").read_text())
    found = fitting.retrieval(ranks, np.arange(16) // 2)
    result["metrics"]["fitting"] = {"pairs": 16, "i2t": asdict(found.i2t), "t2i": asdict(found.t2i)}
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "history.jsonl").write_text(json.dumps({**line, "dev": result["metrics"]["test"]}) + "\n")
    (folder / "origin.json").write_text('{"submission": "x", "digest": "y"}')
    (folder / "status.json").write_text('{"status": "failed", "error": "x"}')
    SweepRecord(tmp_path, "0" * 12).write([Record(folder).spec], {})
    return folder


def read_everything(folder: Path) -> list[str]:
    """Read a record as every command does; return the messages of the errors."""
    root = folder.parents[2]
    record, messages = Record(folder), list[str]()

    def attempt(read: Callable[[], object]) -> None:
        messages.extend(filter(None, [error_of(read)]))

    attempt(lambda: load_runs(root, lambda problem: messages.append(problem.line), verify_run).to_csv())
    attempt(lambda: messages.extend(verify_run(folder)))
    attempt(lambda: list(Store(root).unfinished()))
    attempt(lambda: load_training_curves([root]))
    attempt(lambda: run_row(record, "a"))
    attempt(record.public_measurements)
    attempt(record.origin)
    attempt(SweepRecord(root, "0" * 12).specs)
    attempt(lambda: Store(root).noted_outcome(record.spec))
    read_progress(folder)
    return messages


def error_of(read: Callable[[], object]) -> str:
    """Return the message of the UserError that reading raises, "" without one."""
    try:
        read()
    except UserError as error:
        return str(error)
    return ""


def check(folder: Path) -> list[str]:
    messages = read_everything(folder)
    for message in messages:
        assert "\n" not in message
        assert "Traceback" not in message
        assert len(message) < 3000
    return messages


def changed_content(content: bytes, rng: random.Random) -> bytes:
    """Return the content with some bytes flipped, cut, repeated or replaced by hostile text."""
    place, kind = rng.randrange(len(content)), rng.randrange(4)
    if kind == 0:
        return content[:place] + bytes([content[place] ^ rng.randrange(1, 256)]) + content[place + 1 :]
    if kind == 1:
        return content[:place]
    if kind == 2:
        return content[:place] + content[place : place + rng.randrange(1, 40)] * 2 + content[place:]
    return content[:place] + rng.choice(HOSTILE).encode(errors="surrogatepass") + content[place:]


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all values in decoded JSON."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def with_hostile(content: Any, path: tuple[Any, ...], text: str) -> str:
    """Return the JSON of the content in which the value at `path` is replaced by `text`."""
    copy = json.loads(json.dumps(content))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = "@here@"
    return json.dumps(copy).replace('"@here@"', text)


def test_the_whole_record_is_read(whole: Path) -> None:
    assert not [message for message in check(whole) if "cannot be read" in message or "damaged" in message]


@pytest.mark.parametrize("name", [*JSON_FILES, *ARRAY_FILES, "noise.npy", "noise.json", "plan.json"])
def test_random_damage(name: str, whole: Path) -> None:
    path, rng = file_of(whole, name), random.Random(name)
    good = path.read_bytes()
    for _ in range(8):
        path.write_bytes(changed_content(good, rng))
        check(whole)
    path.write_bytes(b"")
    check(whole)


@pytest.mark.parametrize("name", [*JSON_FILES, "noise.json", "plan.json"])
def test_values_of_another_kind(name: str, whole: Path) -> None:
    path, rng = file_of(whole, name), random.Random(name)
    content = json.loads(path.read_text())
    for place in places(content):
        for text in rng.sample(HOSTILE, 1):
            path.write_text(with_hostile(content, place, text))
            check(whole)


def file_of(folder: Path, name: str) -> Path:
    noise = Record(folder).noise_path
    sweep = folder.parents[2] / "sweeps" / ("0" * 12)
    return {"noise.npy": noise, "noise.json": noise.with_suffix(".json"), "plan.json": sweep / name}.get(
        name, folder / name
    )


@pytest.mark.parametrize("name", [*JSON_FILES, *ARRAY_FILES, "noise.npy", "noise.json", "plan.json"])
def test_files_without_an_end(name: str, whole: Path) -> None:
    path = file_of(whole, name)
    path.unlink()
    path.symlink_to("/dev/zero")
    check(whole)
    path.unlink()
    os.mkfifo(path)  # opening it would wait for ever
    check(whole)
    path.unlink()
    path.mkdir()
    check(whole)


HEADER = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }"
BOMBS = {
    "declared": (HEADER % 10**12).ljust(127) + b"\n",
    "compressed": (HEADER % (2**24)).ljust(127) + b"\n" + bytes(2**27),
    "negative": (HEADER % -5).ljust(127) + b"\n",
    "nested": b"\x93NUMPY\x01\x00\x76\x00".ljust(127, b"(") + b"\n",
}


@cache
def bomb(kind: str) -> bytes:
    """Return an archive of this kind: of five arrays, or of very many empty ones."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for member in ("p_clean", "told", "i2t", "t2i", "true") if kind in BOMBS else map(str, range(10_000)):
            archive.writestr(f"{member}.npy", BOMBS.get(kind, b""))
    return content.getvalue()


@pytest.mark.parametrize("kind", [*BOMBS, "many"])
def test_bombs(kind: str, whole: Path) -> None:
    content = bomb(kind)
    for name in ARRAY_FILES:
        (whole / name).write_bytes(content)
    tracemalloc.start()
    messages = verify_run(whole)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    assert sum(name in message for message in messages for name in ARRAY_FILES) == len(ARRAY_FILES)
    check(whole)


def test_arrays_that_do_not_fit_the_pairs_are_not_loaded(whole: Path) -> None:
    save_beliefs(whole / "beliefs.npz", Beliefs(np.zeros(2**20), None, None, np.arange(2)))
    message = "p_clean must be 48 numbers in [0, 1], one per training pair; restore it"
    assert any(message in found for found in check(whole))


def test_damaged_submissions(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncbench.records.submission.verify_run", lambda folder: [])
    path, rng = tmp_path / "s.json", random.Random(0)
    write_submission(path, bundle("s", [whole], "", "c"))
    specs_of(path, read_submission(path))
    good, content = path.read_bytes(), json.loads(path.read_bytes())
    damaged = [changed_content(good, rng) for _ in range(40)]
    damaged += [with_hostile(content, place, rng.choice(HOSTILE)).encode() for place in places(content)]
    for each in damaged:
        path.write_bytes(each)
        message = error_of(lambda: specs_of(path, read_submission(path)))
        assert "\n" not in message
        assert len(message) < 3000
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="not a regular file"):
        read_submission(path)


def test_one_bad_record_does_not_stop_the_others(record: Make, tmp_path: Path) -> None:
    folders = [record(seed=seed) for seed in range(3)]
    (folders[1] / "result.json").write_text("{")
    with pytest.raises(UserError, match=r"result.json: cannot be read"):
        load_runs(tmp_path)
    problems: list[Any] = []
    frame = load_runs(tmp_path, problems.append)
    assert list(frame["seed"]) == [seed for seed in (0, 2) for run in [folders[seed]] if run] or len(frame) == 2
    ((problem),) = problems
    assert (problem.folder, problem.left_out, problem.dataset) == (folders[1], True, "toy")
    assert problem.line.endswith(" (left out)")


def test_records_that_fail_are_marked(record: Make, tmp_path: Path) -> None:
    folders = [record(seed=seed) for seed in range(3)]
    wrong = {folders[1]: ["the scores are made up"]}
    problems: list[Any] = []
    frame = load_runs(tmp_path, problems.append, lambda folder: wrong.get(folder, []))
    marked = frame[frame["problems"] != ""]
    assert list(marked["variant"]) == ["triplet (fails verification)"]
    assert list(marked["problems"]) == ["the scores are made up"]
    assert list(frame["variant"]).count("triplet") == 2
    assert [problem.line for problem in problems] == [f"{folders[1]}: the scores are made up (fails verification)"]


def test_a_folder_that_cannot_be_listed(record: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, scandir = record(), os.scandir
    record(method="ncr")

    def refuse(path: str) -> Any:
        if path == str(folder.parent):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for read in (load_runs, lambda root: list(Store(root).unfinished()), lambda root: list(Store(root).results())):
        with pytest.raises(UserError, match="triplet: cannot be listed \\(Permission denied\\)"):
            read(tmp_path)
    shutil.rmtree(tmp_path / "toy")
    monkeypatch.undo()
    assert list(Store(tmp_path).results()) == []


def test_damaged_published_numbers() -> None:
    rng = random.Random(0)
    good = (files("ncbench_leaderboards") / "published.csv").read_bytes()
    head, *rows = good.splitlines(keepends=True)
    small = head + b"".join(rows[:5])
    assert parse(small, "published.csv")
    damaged = [changed_content(small, rng) for _ in range(200)]
    damaged += [small.replace(b"0.", text.encode(errors="surrogatepass")[:1000], 2) for text in HOSTILE]
    for content in damaged:
        message = error_of(lambda: with_units_and_nets(parse(content, "published.csv")))  # noqa: B023 - called at once
        assert "\n" not in message
        assert len(message) < 3000


def test_damaged_sweep_files(tmp_path: Path) -> None:
    rng, path = random.Random(0), tmp_path / "sweep.toml"
    good = b'method = ["triplet", "ncr"]\nnoise = [0.2, 0.4]\nbudget = "5"\nout = "runs"\n\n[set]\n"ncr.lr" = 0.1\n'
    damaged = [changed_content(good, rng) for _ in range(100)]
    for content in [*damaged, b"a = " + b"[" * 100_000, b"a." * 10_000 + b"a = 1", b"a = " + b"9" * 5000]:
        path.write_bytes(content)
        message = error_of(lambda: read_toml(path, "--config"))
        assert "Traceback" not in message
        assert len(message) < 3000
