"""Snapshots: what is written comes back, whole or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncbench import Optimiser
from ncbench.budget import WorkMeter
from ncbench.runtime.sameness import differences
from ncbench.runtime.state import capture
from ncbench.training.checkpoint import read_snapshot, write_snapshot


def no_warning(text: str) -> None:
    raise AssertionError(text)


PLAIN = st.none() | st.booleans() | st.integers(-(2**130), 2**130) | st.floats() | st.text()
KEYS = st.text(max_size=3) | st.integers(0, 9)
NESTED = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(state=st.dictionaries(st.text(max_size=5), NESTED, max_size=4))
def test_plain_values_come_back(state: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("snapshots")
    write_snapshot(folder, 1, state)
    assert not differences(read_snapshot(folder, no_warning), state)


@pytest.mark.parametrize(
    "value",
    [
        np.array([0.1, np.nan, -np.inf]),
        np.array(3.5),
        np.zeros((0, 2), np.int64),
        np.array([True, False]),
        np.arange(12, dtype=np.uint32).reshape(3, 4).T,
        torch.arange(6, dtype=torch.float32).view(2, 3).T,
        torch.tensor(7),
        torch.zeros(0, dtype=torch.uint8),
        torch.tensor([1.5, -0.0], dtype=torch.bfloat16).float(),
    ],
)
def test_arrays_and_tensors_come_back(value: Any, tmp_path: Path) -> None:
    write_snapshot(tmp_path, 1, {"deep": [{"value": value}], "other": torch.ones(2)})
    found = read_snapshot(tmp_path, no_warning)
    assert found is not None
    assert not differences(found["deep"][0]["value"], value)
    assert not differences(found["other"], torch.ones(2))


def test_the_state_of_training_comes_back(tmp_path: Path) -> None:
    net, rng = torch.nn.Linear(3, 1), np.random.default_rng(5)
    optimiser = Optimiser([net], WorkMeter(10), lr=0.1)
    optimiser.step(net(torch.ones(2, 3)).sum())
    state = capture({"net": net, "optimiser": optimiser, "rng": rng, "torch": torch.get_rng_state()})
    write_snapshot(tmp_path, 3, state)
    assert not differences(read_snapshot(tmp_path, no_warning), state)


def test_the_latest_is_read_and_two_are_kept(tmp_path: Path) -> None:
    assert read_snapshot(tmp_path, no_warning) is None
    assert read_snapshot(tmp_path / "nowhere", no_warning) is None
    for number in (1, 2, 9, 10):
        write_snapshot(tmp_path, number, {"number": number, "tensor": torch.full((2,), number)})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000009.json",
        "00000009.safetensors",
        "00000010.json",
        "00000010.safetensors",
    ]
    assert not differences(read_snapshot(tmp_path, no_warning), {"number": 10, "tensor": torch.full((2,), 10)})


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["json", "safetensors"])
@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "gone", "foreign"])
def test_a_damaged_one_is_passed_over_with_a_warning(kind: str, harm: str, tmp_path: Path) -> None:
    for number in (1, 2):
        write_snapshot(tmp_path, number, {"number": number, "tensor": torch.ones(50)})
    victim = tmp_path / f"00000002.{kind}"
    content = victim.read_bytes()
    if harm == "flip":
        flip(victim, len(content) - 20)
    elif harm == "gone":
        victim.unlink()
    else:
        victim.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "foreign": b"[1, 2]"}[harm])
    warnings: list[str] = []
    found = read_snapshot(tmp_path, warnings.append)
    assert found is not None
    assert found["number"] == 1
    if (kind, harm) == ("json", "gone"):
        assert warnings == []  # what has no JSON is no snapshot yet
    else:
        (warning,) = warnings
        assert warning.startswith(f"{tmp_path / '00000002.json'}: ")
        assert "using the snapshot before it" in warning


def test_every_bit_of_the_json_counts(tmp_path: Path) -> None:
    write_snapshot(tmp_path, 1, {"a": 1.25, "b": [True, "x"], "c": np.arange(3)})
    path = tmp_path / "00000001.json"
    original = path.read_bytes()
    for at in range(len(original)):
        path.write_bytes(original)
        flip(path, at)
        warnings: list[str] = []
        assert read_snapshot(tmp_path, warnings.append) is None, at
        assert len(warnings) == 1


def test_half_a_write_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_snapshot(tmp_path, 1, {"number": 1})

    def killed(path: Path, text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ncbench.training.checkpoint.write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        write_snapshot(tmp_path, 2, {"number": 2})
    assert read_snapshot(tmp_path, no_warning) == {"number": 1}


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes", 1j])
def test_what_cannot_be_held_is_refused_before_anything_is_written(value: object, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=f"^a snapshot cannot hold a {type(value).__name__}$"):
        write_snapshot(tmp_path, 1, {"x": [value]})
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_let_be(tmp_path: Path) -> None:
    for name in ("notes.json", "1.json", "000000001.json", "00000001.txt"):
        (tmp_path / name).write_text("{}")
    for number in (1, 2, 3):
        write_snapshot(tmp_path, number, {"number": number})
    assert {"notes.json", "1.json", "000000001.json", "00000001.txt"} < {path.name for path in tmp_path.iterdir()}
    assert read_snapshot(tmp_path, no_warning) == {"number": 3}


def test_the_json_is_strict(tmp_path: Path) -> None:
    write_snapshot(tmp_path, 1, {"x": math.inf, "y": math.nan})
    json.loads((tmp_path / "00000001.json").read_text(), parse_constant=lambda name: pytest.fail(name))
