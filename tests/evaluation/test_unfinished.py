"""A matrix that is computed over several attempts is that of one, to the last bit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.data.dataset import Dataset
from ncbench.evaluation import scoring, unfinished
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.evaluation.unfinished import Position, Unfinished, scored_at, unfinished_file
from ncbench.runtime.signals import Stopped

CPU = torch.device("cpu")


class Killed(BaseException):
    """The process ends without notice."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "ENCODE_BATCH_SIZE", 3)


def kept_in(folder: Path) -> Path:
    return unfinished_file(folder, "test")


def make(dataset: Dataset, seed: int) -> Backbone:
    torch.manual_seed(seed)
    sizes = Sizes(dataset.image_dim, dataset.n_regions, len(dataset.vocabulary), embed=8, similarity=4, word=5)
    return build_backbone("vse", sizes)


def stopping(after: int) -> Callable[[], None]:
    calls = 0

    def between() -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise Stopped

    return between


def blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    scored: list[int] = []
    original = scoring._score

    def score(backbone: Backbone, images: object, captions: object, part: slice) -> object:
        scored.append(len(captions) * (part.stop - part.start))  # type: ignore[arg-type]
        return original(backbone, images, captions, part)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring, "_score", score)
    return scored


@pytest.mark.parametrize("after", [1, 2, 5])
@pytest.mark.parametrize("networks", [1, 2])
def test_no_block_is_scored_twice(
    after: int, networks: int, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "free_bytes", lambda device: 4 * 3 * nets[0].image_bytes(3))  # three images at once
    nets, split = [make(tiny, seed) for seed in range(networks)], tiny.splits["test"]
    expected = similarity_matrix(nets, split, CPU)
    scored = blocks(monkeypatch)
    for stops in range(1000):  # noqa: B007
        try:
            found = similarity_matrix(nets, split, CPU, Unfinished(kept_in(tmp_path), stopping(after)))
            break
        except Stopped:
            assert kept_in(tmp_path).exists()
    assert stops >= 16 // 3 * networks // after
    assert found.tobytes() == expected.tobytes()
    assert sum(scored) == networks * expected.size
    assert kept_in(tmp_path).exists()  # what follows may be interrupted as well
    other = [make(tiny, 7)]
    monkeypatch.setattr(unfinished.time, "monotonic", lambda: 0.0)  # as fast as can be
    similarity_matrix(other, split, CPU, Unfinished(kept_in(tmp_path), lambda: None))
    assert not kept_in(tmp_path).exists()


def test_a_killed_process_has_written_from_time_to_time(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets, split = [make(tiny, 0)], tiny.splits["test"]
    expected = similarity_matrix(nets, split, CPU)
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.6
        return now

    monkeypatch.setattr(unfinished.time, "monotonic", clock)
    monkeypatch.setattr(unfinished, "COST_SHARE", 1.0)
    written: list[Position] = []
    write = Unfinished._write

    def watch(self: Unfinished, total: np.ndarray, position: Position) -> None:
        written.append(position)
        write(self, total, position)
        if len(written) == 2:
            raise Killed

    monkeypatch.setattr(Unfinished, "_write", watch)
    with pytest.raises(Killed):
        similarity_matrix(nets, split, CPU, Unfinished(kept_in(tmp_path), lambda: None))
    assert 0 < written[0].captions < written[1].captions < len(split.captions)
    assert scored_at(tmp_path) > 0 == scored_at(tmp_path / "missing")
    scored = blocks(monkeypatch)
    found = similarity_matrix(nets, split, CPU, Unfinished(kept_in(tmp_path), lambda: None))
    assert found.tobytes() == expected.tobytes()
    assert sum(scored) == len(split.images) * (len(split.captions) - written[1].captions)
    # It took long, so that it is kept: what follows may be interrupted.
    again = similarity_matrix(nets, split, CPU, Unfinished(kept_in(tmp_path), lambda: None))
    assert again.tobytes() == expected.tobytes()
    assert sum(scored) == len(split.images) * (len(split.captions) - written[1].captions)


@pytest.mark.parametrize("change", ["other weights", "cut", "flipped", "empty", "no JSON", "deep", "folder", "shape"])
def test_what_is_of_others_or_damaged_is_ignored(change: str, tiny: Dataset, tmp_path: Path) -> None:
    kept, split = kept_in(tmp_path), tiny.splits["test"]
    with pytest.raises(Stopped):
        similarity_matrix([make(tiny, 0)], split, CPU, Unfinished(kept, stopping(2)))
    content = kept.read_bytes()
    changed = {
        "cut": content[:-1],
        "flipped": content[:-1] + bytes([content[-1] ^ 1]),
        "empty": b"",
        "no JSON": b"\xff" + content,
        "deep": b"[" * 4000 + content,
        "shape": content.replace(b"(8, 16)", b"(4, 32)"),
    }
    if change == "folder":
        kept.unlink()
        kept.mkdir()
    else:
        kept.write_bytes(changed.get(change, content))
    net = make(tiny, 1 if change == "other weights" else 0)
    found = similarity_matrix([net], split, CPU, Unfinished(kept, lambda: None))
    assert found.tobytes() == similarity_matrix([net], split, CPU).tobytes()


def test_a_full_disk_does_not_stop_an_evaluation(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(unfinished, "LEAST_SECONDS", 0.0)
    net, split = make(tiny, 0), tiny.splits["test"]
    found = similarity_matrix([net], split, CPU, Unfinished(kept_in(tmp_path), lambda: None))
    assert found.tobytes() == similarity_matrix([net], split, CPU).tobytes()
    assert list(tmp_path.iterdir()) == []
