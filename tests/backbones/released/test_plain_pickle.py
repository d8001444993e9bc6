"""What training scripts save beside the weights, and what is not data."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import os
import pathlib
import pickle
import subprocess
import tarfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import refusal

from ncbench.backbones.released.plain_pickle import Items, Options, Placeholder, is_plain
from ncbench.backbones.released.torch_file import read_torch_file

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


def scheduler() -> dict[str, Any]:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
    return torch.optim.lr_scheduler.MultiStepLR(optimiser, [1, 2]).state_dict()


BESIDES: dict[str, object] = {
    "array": np.ones(145),
    "array of objects": np.array([1, "a"], dtype=object),
    "scalar": np.float64(302.0),
    "bool": np.bool_(True),
    "dtype": np.dtype("float32"),
    "random states": [np.random.get_state(), np.random.RandomState(0), np.random.default_rng(0)],
    "device": torch.device("cpu"),
    "torch dtype": torch.float16,
    "size": torch.Size([1, 2]),
    "version": torch.__version__,
    "path": pathlib.Path("/data"),
    "sets": [{1, 2}, frozenset({3})],
    "counter": collections.Counter("aab"),
    "deque": collections.deque([1, 2], 5),
    "ordered": collections.OrderedDict(a=1),
    "namespaces": [argparse.Namespace(a=1), types.SimpleNamespace(a=1)],
    "bytes": [b"abc", bytearray(b"x")],
    "complex": 1j,
    "time": datetime.datetime(2026, 1, 1),
    "scheduler": scheduler(),
    "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 0},
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tensors_are_read_whatever_is_saved_beside_them(protocol: int, zipped: bool, tmp_path: Path) -> None:
    path, weight = tmp_path / "model.pth.tar", torch.arange(6.0).view(2, 3)
    content = {**BESIDES, "net": {"w": weight.T, "p": torch.nn.Parameter(weight)}, "epoch": 7}
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    found: Any = read_torch_file(path)
    assert (found["epoch"], found["scaler"], list(found)) == (7, BESIDES["scaler"], list(content))
    assert torch.equal(found["net"]["w"], weight.T)
    assert torch.equal(found["net"]["p"], weight)


def test_what_is_kept_and_what_is_not(tmp_path: Path) -> None:
    nets = collections.defaultdict(list)
    nets["a"].append(torch.ones(2))
    torch.save({"nets": nets, "opt": argparse.Namespace(lr=0.1), "x": np.ones(2)}, tmp_path / "model.pth")
    found: Any = read_torch_file(tmp_path / "model.pth")
    assert isinstance(found["nets"], Items)
    assert torch.equal(found["nets"]["a"][0], torch.ones(2))
    assert isinstance(found["opt"], Options)
    assert found["opt"].values == {"lr": 0.1}
    assert isinstance(found["x"], Placeholder)
    assert not vars(found["x"])


class Call:
    """Unpickling it calls a function."""

    def __init__(self, function: object, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


CALLS = {
    "os.system": Call(os.system, "touch marker"),
    "subprocess": Call(subprocess.Popen, ["touch", "marker"]),
    "eval": Call(eval, "open('marker', 'w')"),
    "getattr": Call(getattr, "", "join"),
    "open": Call(open, "marker", "w"),
    "torch.load": Call(torch.load, "x"),
    "torch.hub": Call(torch.hub.load, "x", "y"),
    "np.load": Call(np.load, "x"),
    "fromfile": Call(np.fromfile, "x"),
    "load_from_bytes": Call(torch.storage._load_from_bytes, b""),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", CALLS)
def test_code_is_refused_and_not_run(
    name: str, protocol: int, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pth"
    torch.save({"x": CALLS[name]}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert "which is code, not data; it was not executed" in refusal(path)
    assert not (tmp_path / "marker").exists()


def test_a_name_that_the_list_cannot_see_is_refused_by_the_unpickler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list follows the strings of a pickle, not its stack: here a duplicate of the module's name fools it."""
    monkeypatch.chdir(tmp_path)
    module, name = (pickle.SHORT_BINUNICODE + bytes([len(text)]) + text for text in (b"os", b"system"))
    harmless = [pickle.SHORT_BINUNICODE + bytes([len(t)]) + t + pickle.POP for t in (b"collections", b"OrderedDict")]
    argument = pickle.SHORT_BINUNICODE + b"\x0ctouch marker"
    body = module + name + b"".join(harmless) + pickle.STACK_GLOBAL + argument + pickle.TUPLE1 + pickle.REDUCE
    content = pickle.PROTO + b"\x04" + body + pickle.STOP
    path = tmp_path / "model.pth"
    with torch.serialization._open_zipfile_writer(str(path)) as file:
        file.write_record("data.pkl", content, len(content))
    assert "is truncated or damaged (UnpicklingError" in refusal(path)
    assert not (tmp_path / "marker").exists()


def test_bytes_of_other_encodings_are_refused() -> None:
    assert is_plain("_codecs.encode")
    content = io.BytesIO(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00utf_8\x86R.")
    from ncbench.backbones.released.plain_pickle import load

    with pytest.raises(pickle.UnpicklingError, match="expected latin1"):
        load(content)


@pytest.mark.parametrize("inner", ["model.pth.tar", "./model.pth.tar"])
def test_a_tar_archive_says_that_it_is_one(inner: str, tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2)}, tmp_path / "model.pth.tar")
    with tarfile.open(tmp_path / "archive.pth.tar", "w") as archive:
        archive.add(tmp_path / "model.pth.tar", inner)
    assert "is a tar archive; unpack it (tar xf) and give the checkpoint in it" in refusal(tmp_path / "archive.pth.tar")
