"""The benchmark of large inputs starts, here on small ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import large_inputs
import numpy as np
import pytest
from full_size import make

from ncbench.evaluation.blocks import Block, Blocks
from ncbench.evaluation.retrieval import Ranks
from ncbench.records.arrays import RANKS_FILE, load_ranks, save_ranks


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(large_inputs, "SMALL_SPLIT", (12, 1))
    sizes = {"train": (60, 1), "dev": (12, 1), "test": (12, 1)}
    make(tmp_path / "data", sizes, regions=1, dim=large_inputs.DIM, independent=True)
    return tmp_path / "data"


def test_features_are_independent(data: Path) -> None:
    features = np.load(data / "f30k_precomp" / "train_ims.npy")
    assert features.shape == (60, 1, large_inputs.DIM)
    assert len(np.unique(features)) == features.size


def test_noise_records_and_audits_are_measured(data: Path, tmp_path: Path) -> None:
    assert large_inputs.opening(data)["cpu_seconds"] > 0
    for protocol in large_inputs.PROTOCOLS:
        assert 0.2 < large_inputs.drawing(data, protocol)["mismatched"] <= 0.4
    assert 0 < large_inputs.drawing_part(data, 0.5)["share"] < 1
    assert large_inputs.recording(data, tmp_path / "runs")["seconds"] > 0
    assert large_inputs.auditing(data, tmp_path / "runs")["rows"] == 300


def test_blocks_and_matrix_have_the_same_ranks(data: Path, tmp_path: Path) -> None:
    one, other, part = (tmp_path / name for name in ("blocks", "matrix", "part"))
    large_inputs.evaluating(data, one)
    large_inputs.evaluating(data, other, whole=True)
    large_inputs.check_ranks(one, other)
    assert large_inputs.evaluating(data, part, share=0.4)["share"] == 0.4
    ranks = load_ranks(one / RANKS_FILE)["test"]
    save_ranks(part / RANKS_FILE, Ranks((ranks.i2t[0] + 1,), ranks.t2i))
    with pytest.raises(ValueError, match="i2t: the ranks of blocks are not those of the matrix"):
        large_inputs.check_ranks(one, part)


def test_slopes_are_exponents_between_neighbouring_sizes() -> None:
    assert large_inputs.slope([(10, 3.0), (20, 12.0), (40, 24.0)]) == "2.00, 1.00"
    step = {"cpu_seconds": 1.0, "resident_beyond_imports": 10**6}
    more = {"cpu_seconds": 2.0, "resident_beyond_imports": 4 * 10**6}
    part = {**step, "share": 0.1}
    found = {"200": {"open": more, "clean, part": part}, "100": {"open": step, "clean": step}}
    assert list(large_inputs.table(found)) == [
        "| step | 100 | 200 | slope of time | slope of memory |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| open | 1.0 s, 1 MB | 2.0 s, 4 MB | 1.00 | 2.00 |",
        "| clean | 1.0 s, 1 MB | about 1.0 s, 1 MB | 0.00 | 0.00 |",
    ]


def test_a_share_is_of_pairs() -> None:
    class Parts(Blocks):
        shape = (100, 100)

        def __iter__(self) -> Iterator[Block]:
            for number in range(50):
                yield Block(np.arange(50), np.arange(4), np.full((50, 4), number, np.float32))

    assert [block.scores[0, 0] for block in large_inputs.First(Parts(), 0.1)] == [0, 1, 2, 3, 4]
