"""Networks read from released checkpoints, and files that are refused."""

from __future__ import annotations

import argparse
import copy
import functools
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import built, refusal, similarities
from places import FIXTURES
from torch import Tensor

from ncbench.backbones.released.names import GRAPHS
from ncbench.data.dataset import Dataset
from ncbench.data.registry import load_dataset
from ncbench.errors import UserError
from ncbench.records.networks import read_checkpoint

ROOT = FIXTURES / "published_sgr"
OFFICIAL = ROOT / "official_sgr.pth.tar"
WORDS = 66

Net = OrderedDict[str, Any]


@pytest.fixture(scope="module")
def f30k() -> Dataset:
    return load_dataset("f30k", ROOT)


@pytest.fixture(scope="module")
def golden() -> np.ndarray:
    similarities: np.ndarray = np.load(ROOT / "official_sgr_sims.npy")
    return similarities


@pytest.fixture
def official() -> dict[str, Any]:
    """The content of the released checkpoint; a fresh copy."""
    content: dict[str, Any] = torch.load(OFFICIAL, weights_only=False)
    return content


@pytest.fixture
def net(official: dict[str, Any]) -> Net:
    return OrderedDict(official["net"])


def triple(net: Net) -> list[Net]:
    """The three state dicts of the SGRAF family."""
    return [
        OrderedDict((name.removeprefix(start), weight) for name, weight in net.items() if name.startswith(start))
        for start in ("img_enc.", "txt_enc.", "sim_enc.")
    ]


# Layouts


def numpy_scalars() -> dict[str, object]:
    return {"best_rsum": np.float64(302.0), "lr": np.float32(0.1), "seed": np.int64(3)}


def masked(net: Net) -> Net:
    """As RCL and CRCL save it: a row for <mask> behind the others."""
    words = net["txt_enc.embed.weight"]
    return OrderedDict({**net, "txt_enc.embed.weight": torch.cat([words, torch.full((1, words.shape[1]), 9.0)])})


def parallel(net: Net) -> Net:
    return OrderedDict((f"module.{name}", weight) for name, weight in net.items())


LAYOUTS: dict[str, Callable[[Net], object]] = {
    "L2RM": lambda net: {"epoch": 7, "net": net, "best_rsum": 1.0, "opt": argparse.Namespace(vocab_size=WORDS)},
    "SGRAF": lambda net: {"epoch": 7, "model": triple(net), "best_rsum": 1.0, "opt": argparse.Namespace(), "Eiters": 9},
    "RCL": lambda net: {"epoch": 7, "model": triple(masked(net)), "opt": argparse.Namespace(vocab_size=WORDS + 1)},
    "a tuple": lambda net: {"epoch": 7, "net_A": tuple(triple(net))},
    "NumPy scalars": lambda net: {"epoch": 7, "net": net, **numpy_scalars()},
    "in a dict": lambda net: {"epoch": 7, "nets": {"A": triple(net)}},
    "DataParallel": lambda net: {"epoch": 7, "net": parallel(net)},
    "DataParallel parts": lambda net: {"epoch": 7, "model": [parallel(part) for part in triple(net)]},
    "optimiser": lambda net: {
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3), "step": 1}}, "param_groups": [{"lr": 1, "params": [0]}]},
        "epoch": 7,
        "net": net,
    },
    "parameters": lambda net: {
        "epoch": 7,
        "net": {name: torch.nn.Parameter(w) if w.is_floating_point() else w for name, w in net.items()},
    },
    "without counters": lambda net: {
        "epoch": 7,
        "net": {name: weight for name, weight in net.items() if "num_batches" not in name},
    },
    "float64": lambda net: {"epoch": 7, "net": {name: w.double() for name, w in net.items()}},
}


@pytest.mark.parametrize(
    ("layout", "zipped"), [*((layout, True) for layout in LAYOUTS), ("L2RM", False), ("SGRAF", False)]
)
def test_every_layout_gives_the_published_similarities(
    layout: str, zipped: bool, net: Net, f30k: Dataset, golden: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "model_best.pth.tar"
    torch.save(LAYOUTS[layout](net), path, _use_new_zipfile_serialization=zipped)
    assert zipfile.is_zipfile(path) == zipped
    found = read_checkpoint(path)
    assert (found.path, found.kinds, found.epoch) == (path, ["sgr"], 7)
    np.testing.assert_allclose(similarities(found.build(f30k), f30k), golden, rtol=0, atol=1e-5)


def test_the_released_file_as_it_is(f30k: Dataset, golden: np.ndarray) -> None:
    found = read_checkpoint(OFFICIAL)
    assert (found.kinds, found.epoch) == (["sgr"], 3)
    np.testing.assert_allclose(similarities(found.build(f30k), f30k), golden, rtol=0, atol=1e-5)


@pytest.mark.parametrize("flat", [True, False])
def test_weights_alone(flat: bool, net: Net, f30k: Dataset, golden: np.ndarray, tmp_path: Path) -> None:
    torch.save(net if flat else triple(net), tmp_path / "weights.pth")
    found = read_checkpoint(tmp_path / "weights.pth")
    assert found.epoch is None
    np.testing.assert_allclose(similarities(found.build(f30k), f30k), golden, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["numpy.core", "numpy._core"])
def test_numpy_scalars_under_both_names(name: str, net: Net, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"net": net, **numpy_scalars()}, path, _use_new_zipfile_serialization=False)
    other = path.read_bytes().replace(b"cnumpy._core.multi", f"c{name}.multi".encode())
    path.write_bytes(other.replace(b"cnumpy.core.multi", f"c{name}.multi".encode()))
    assert path.read_bytes().count(f"c{name}.multiarray\nscalar".encode()) == 1
    assert read_checkpoint(path).kinds == ["sgr"]


def test_two_networks_in_the_order_of_the_file(net: Net, f30k: Dataset, tmp_path: Path) -> None:
    other = OrderedDict((name, weight * 1.1 if weight.is_floating_point() else weight) for name, weight in net.items())
    torch.save({"model_A": triple(net), "model_B": triple(other)}, tmp_path / "two.pth")
    torch.save({"net": other}, tmp_path / "other.pth")
    both = read_checkpoint(tmp_path / "two.pth").build(f30k)
    alone = [read_checkpoint(path).build(f30k) for path in (OFFICIAL, tmp_path / "other.pth")]
    first, second = (similarities(networks, f30k).astype(np.float64) for networks in alone)
    np.testing.assert_array_equal(similarities(both[:1], f30k), first)
    np.testing.assert_array_equal(similarities(both[1:], f30k), second)
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(similarities(both, f30k), ((first + second) / 2).astype(np.float32))


@pytest.mark.parametrize("kind", ["sgr", "saf"])
def test_the_kind_is_found_by_the_names(kind: str, tmp_path: Path) -> None:
    with np.load(FIXTURES / f"{kind}.npz") as stored:
        values = {name: torch.from_numpy(stored[name]) for name in stored.files if name != "meta"}
    weights = OrderedDict((k.removeprefix("weights/"), w) for k, w in values.items() if k.startswith("weights/"))
    if kind == "saf":
        weights["sim_enc.SAF_module.bn.num_batches_tracked"] = torch.tensor(5)
    torch.save({"model": triple(weights)}, tmp_path / "model.pth")
    found = read_checkpoint(tmp_path / "model.pth")
    assert found.kinds == [kind]
    vocabulary = range(len(weights["txt_enc.embed.weight"]))
    like: Any = SimpleNamespace(name="toy", vocabulary=vocabulary, image_dim=24, n_regions=36)
    (backbone,) = found.build(like)
    with torch.no_grad():
        scores = backbone.eval()(values["images"], values["captions"], values["lengths"])
    torch.testing.assert_close(scores, values["sims"], rtol=0, atol=1e-5)


def test_reading_draws_no_numbers_and_leaves_no_name_allowed(tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    read_checkpoint(OFFICIAL)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not [entry for entry in torch.serialization.get_safe_globals() if isinstance(entry, tuple)]


# Weights that do not fit


def shrunk(weight: Tensor) -> Tensor:
    return weight[..., :-1].clone()


CHANGES: dict[str, tuple[str, object, str]] = {
    "extra": ("sim_enc.meta_fc.weight", torch.ones(2, 2), "unexpected weight 'sim_enc.meta_fc.weight' for SGR"),
    "extra under a known prefix": ("img_enc.fc.weight_g", torch.ones(2), "unexpected weight 'img_enc.fc.weight_g'"),
    "missing": ("sim_enc.sim_eval_w.bias", None, "weight 'sim_enc.sim_eval_w.bias' of SGR is missing"),
    "missing, which gives a size": ("sim_enc.sim_tranloc_w.weight", None, "'sim_enc.sim_tranloc_w.weight' of SGR or"),
    "shape": ("txt_enc.cap_rnn.weight_hh_l0", shrunk, "'txt_enc.cap_rnn.weight_hh_l0' has shape (144, 47), expected"),
    "no dimension": ("img_enc.fc.weight", torch.ones(48), "'img_enc.fc.weight' has shape (48,), expected sizes"),
    "empty dimension": ("txt_enc.embed.weight", torch.ones(0, 32), "'txt_enc.embed.weight' has shape (0, 32), exp"),
    "NaN": ("sim_enc.sim_eval_w.bias", torch.tensor([torch.nan]), "'sim_enc.sim_eval_w.bias' contains NaN or inf"),
    "beyond float32": (
        "sim_enc.sim_eval_w.bias",
        torch.tensor([1e300], dtype=torch.float64),
        "'sim_enc.sim_eval_w.bias' contains NaN or infinity",
    ),
    "integers": ("sim_enc.sim_eval_w.bias", torch.tensor([1]), "'sim_enc.sim_eval_w.bias' has dtype torch.int64"),
    "no tensor": ("sim_enc.sim_eval_w.bias", [0.5], "'sim_enc.sim_eval_w.bias' has type list, expected a dense tensor"),
    "expanded": ("txt_enc.embed.weight", torch.zeros(1).expand(WORDS, 32), "claims 8448 bytes, but 4 are stored"),
    "both kinds": ("sim_enc.SAF_module.attn_sim_w.bias", torch.ones(1), "found both; only SGR and SAF are supported"),
}


@pytest.mark.parametrize(("change", "flat"), [*((change, True) for change in CHANGES), ("shape", False)])
def test_weights_that_do_not_fit(change: str, flat: bool, net: Net, tmp_path: Path) -> None:
    name, value, message = CHANGES[change]
    weight = value(net[name]) if callable(value) and not isinstance(value, Tensor) else value
    changed = {**net, name: weight}
    if weight is None:
        del changed[name]
    torch.save({"net": changed if flat else triple(OrderedDict(changed))}, tmp_path / "model.pth")
    assert message in refusal(tmp_path / "model.pth")


def test_a_network_without_a_head(net: Net, tmp_path: Path) -> None:
    headless = {name: weight for name, weight in net.items() if "SGR_module" not in name}
    torch.save({"net": headless}, tmp_path / "model.pth")
    assert "found neither; only SGR and SAF are supported" in refusal(tmp_path / "model.pth")


def test_more_weights_than_the_file_has_bytes(net: Net, tmp_path: Path) -> None:
    bias = "sim_enc.sim_eval_w.bias"
    torch.save({"nets": [{**net, bias: torch.tensor([float(n)])} for n in range(3)]}, tmp_path / "model.pth")
    size = (tmp_path / "model.pth").stat().st_size
    claimed = 3 * sum(weight.numel() * weight.element_size() for weight in net.values())
    assert claimed > size
    assert f"claims {claimed} bytes of weights, but has {size} bytes" in refusal(tmp_path / "model.pth")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({}, "it is empty"),
        ({"model": [{"fc.bias": torch.ones(2)}, {"rnn.weight": torch.ones(2)}]}, "its keys are 'model'"),
        (dict.fromkeys(range(9)), "its keys are 0, 1, 2, 3, 4, 5, ..."),
        (torch.ones(3), "it is of type Tensor"),
    ],
    ids=str,
)
def test_a_file_without_networks(content: object, found: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pth")
    line = refusal(tmp_path / "model.pth")
    assert f"no network found ({found})" in line
    assert "named img_enc.*, txt_enc.* and, of SGR and SAF, sim_enc.*" in line


# Files that are not checkpoints


class Command:
    """What a hostile file holds: unpickling it runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


COMMAND_LINE = f"contains `{os.system.__module__}.system`, which is code, not data; it was not executed"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_hostile_checkpoint_is_not_executed(zipped: bool, net: Net, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "model.pth"
    torch.save({"net": net, "opt": Command(marker)}, path, _use_new_zipfile_serialization=zipped)
    assert COMMAND_LINE in refusal(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # or the file would not be hostile


@pytest.mark.parametrize("protocol", [2, 4])  # which name what they call by different opcodes
def test_a_hostile_pickle_is_not_executed(protocol: int, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "model.pth"
    path.write_bytes(pickle.dumps({"net": Command(marker)}, protocol))
    assert COMMAND_LINE in refusal(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (functools.partial(print, 1), "functools.partial"),
        (print, "__builtin__.print"),
    ],
    ids=["module", "partial", "function"],
)
def test_other_types_are_refused_by_name(value: object, name: str, net: Net, tmp_path: Path) -> None:
    torch.save({"net": net, "more": value}, tmp_path / "model.pth")
    line = refusal(tmp_path / "model.pth")
    assert f"{name}`" in line
    assert "which is code, not data" in line


def rezipped(path: Path, method: int) -> None:
    with zipfile.ZipFile(OFFICIAL) as old, zipfile.ZipFile(path, "w", method) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))


def test_a_hostile_entry_is_found_in_any_case(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(OFFICIAL) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            hostile = entry.filename.endswith("data.pkl")
            name = entry.filename.replace("data.pkl", "Data.PKL")
            new.writestr(name, pickle.dumps(Command(tmp_path / "marker"), 2) if hostile else old.read(entry))
    assert COMMAND_LINE in refusal(path)
    assert not (tmp_path / "marker").exists()


def test_compressed_entries_are_refused(tmp_path: Path) -> None:
    rezipped(tmp_path / "stored.pth", zipfile.ZIP_STORED)
    assert read_checkpoint(tmp_path / "stored.pth").kinds == ["sgr"]
    rezipped(tmp_path / "deflated.pth", zipfile.ZIP_DEFLATED)
    assert "entry official_sgr.pth/data.pkl is compressed" in refusal(tmp_path / "deflated.pth")


def test_overlapping_entries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    rezipped(path, zipfile.ZIP_STORED)
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(20):
            entry = copy.copy(archive.getinfo("official_sgr.pth/data/4"))
            entry.filename = f"official_sgr.pth/data/more{number}"
            archive.filelist.append(entry)
        archive.writestr("end", b"")  # so that the directory is written again
    assert f"bytes, but the file has {path.stat().st_size} bytes" in refusal(path)


OTHER_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty; expected a checkpoint written by torch.save"),
    "text": (b"<!DOCTYPE html>\n", "was not written by torch.save (begins with b'<!DOCTYPE ht')"),
    "pickle": (pickle.dumps({"net": [1.0]}), "is a pickle, but was not written by torch.save"),
    "start of zip": (b"PK\x03\x04", "is truncated or damaged (BadZipFile"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_other_kinds_of_files(kind: str, tmp_path: Path) -> None:
    content, message = OTHER_FILES[kind]
    (tmp_path / "model.pth").write_bytes(content)
    assert message in refusal(tmp_path / "model.pth")


def test_another_zip_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", x=np.ones(2))
    assert "is a zip archive without a data.pkl" in refusal(tmp_path / "model.npz")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.999])
def test_truncated_files(zipped: bool, share: float, official: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(official, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "is truncated or damaged (" in refusal(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_damaged_bytes_give_one_line_or_do_no_harm(zipped: bool, official: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(official, path, _use_new_zipfile_serialization=zipped)
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    lines = []
    for place in rng.integers(0, 9000, 30):  # where the pickles are
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except UserError as error:
            lines.append(str(error))
    assert len(lines) > 5
    assert not [line for line in lines if "\n" in line]


def test_a_storage_that_claims_more_than_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"x": torch.ones(10)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    place = content.index(b"K\x0a", content.index(b"cpu"))
    path.write_bytes(content[:place] + b"J" + (10**9).to_bytes(4, "little") + content[place + 2 :])
    assert "is truncated or damaged (" in refusal(path)


# Datasets that do not fit


@pytest.mark.parametrize("rows", [WORDS - 1, WORDS + 2])
def test_another_vocabulary(rows: int, net: Net, f30k: Dataset, tmp_path: Path) -> None:
    net["txt_enc.embed.weight"] = torch.ones(rows, 32)
    torch.save({"net": net}, tmp_path / "model.pth")
    line = refusal(tmp_path / "model.pth", built(f30k))
    assert f"vocabulary of {rows} words, expected {WORDS} (or {WORDS + 1} with <mask>) for dataset f30k" in line


@pytest.mark.parametrize(("regions", "dim"), [(35, 24), (36, 20)])
def test_other_features(regions: int, dim: int, net: Net, f30k: Dataset, tmp_path: Path) -> None:
    net["img_enc.fc.weight"] = net["img_enc.fc.weight"][:, :dim].clone()
    for name in net:
        if name.startswith("sim_enc.v_global_w.embedding_local.1.") and net[name].ndim:
            net[name] = net[name][:regions].clone()
    torch.save({"net": net}, tmp_path / "model.pth")
    line = refusal(tmp_path / "model.pth", built(f30k))
    assert f"images of {regions} regions by {dim} dimensions, but dataset f30k has 36 by 24" in line


# Names


def test_published_names_and_ours_are_inverse(net: Net) -> None:
    ours = GRAPHS.renamed(net)
    assert [GRAPHS.published_name(name) for name in ours] == list(net)
    with pytest.raises(KeyError, match=r"unheard\.of"):
        GRAPHS.published_name("unheard.of")


@pytest.mark.parametrize("copied", [False, True])
def test_a_network_under_two_keys_counts_once(copied: bool, net: Net, tmp_path: Path) -> None:
    again = {name: weight.clone() for name, weight in net.items()} if copied else net
    torch.save({"net": net, "model": again, "ema": {name: w + 1 for name, w in net.items()}}, tmp_path / "model.pth")
    assert read_checkpoint(tmp_path / "model.pth").kinds == ["sgr", "sgr"]
