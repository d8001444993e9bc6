"""Networks read from released checkpoints and from runs, and everything in a file that is refused."""

from __future__ import annotations

import argparse
import copy
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from places import FIXTURES
from safetensors.torch import save_file
from torch import Tensor

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.backbones.released import names
from ncbench.backbones.released.checkpoint import Checkpoint
from ncbench.backbones.released.torch_file import read_torch_file
from ncbench.budget import Budget
from ncbench.data.dataset import Dataset
from ncbench.data.registry import load_dataset
from ncbench.errors import UserError
from ncbench.evaluation.averaging import average
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.records.networks import read_checkpoint
from ncbench.records.spec import RunSpec

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


def similarities(networks: list[Backbone], dataset: Dataset) -> np.ndarray:
    cpu = torch.device("cpu")
    return average(similarity_matrix([network], dataset.splits["test"], cpu) for network in networks)


def refusal(path: Path, then: Callable[[Checkpoint], object] = lambda found: None) -> str:
    """The one line with which `path` is refused, without the path."""
    with pytest.raises(UserError) as caught:
        then(read_checkpoint(path))
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")


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
    "DECL": lambda net: {"epoch": 7, "step": 4, "model": triple(net), "opt": argparse.Namespace(lambda1=0.1, tau=0.1)},
    "RCL": lambda net: {"epoch": 7, "model": triple(masked(net)), "opt": argparse.Namespace(vocab_size=WORDS + 1)},
    "a tuple": lambda net: {"epoch": 7, "net_A": tuple(triple(net))},
    "NumPy scalars": lambda net: {"epoch": 7, "net": net, **numpy_scalars()},
    "in a list": lambda net: {"epoch": 7, "nets": [triple(net)]},
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


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("layout", LAYOUTS)
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
def test_the_kind_is_told_by_the_names(kind: str, tmp_path: Path) -> None:
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
    "extra": (
        "sim_enc.meta_fc.weight",
        torch.ones(2, 2),
        "holds the weight 'sim_enc.meta_fc.weight', which no SGR has; this kind of network is not supported",
    ),
    "extra step": (
        "sim_enc.SGR_module.3.graph_key_w.bias",
        torch.ones(24),
        "holds the weight 'sim_enc.SGR_module.3.graph_key_w.bias', which no SGR has; this kind of",
    ),
    "extra under a known beginning": (
        "img_enc.fc.weight_g",
        torch.ones(2),
        "holds the weight 'img_enc.fc.weight_g', which no SGR has; this kind of network is not supported",
    ),
    "missing": (
        "sim_enc.sim_eval_w.bias",
        None,
        "lacks the weight 'sim_enc.sim_eval_w.bias', which every SGR has, here of shape (1,)",
    ),
    "missing, of which a size is read": (
        "sim_enc.sim_tranloc_w.weight",
        None,
        "lacks the weight 'sim_enc.sim_tranloc_w.weight', which every SGR and SAF network has",
    ),
    "shape": (
        "txt_enc.cap_rnn.weight_hh_l0",
        shrunk,
        "weight 'txt_enc.cap_rnn.weight_hh_l0' has shape (144, 47); right would be (144, 48)",
    ),
    "no dimension": (
        "img_enc.fc.weight",
        torch.ones(48),
        "weight 'img_enc.fc.weight' has shape (48,), which gives no size; right would be",
    ),
    "empty dimension": (
        "txt_enc.embed.weight",
        torch.ones(0, 32),
        "weight 'txt_enc.embed.weight' has shape (0, 32), which gives no size; right would be",
    ),
    "NaN": (
        "sim_enc.sim_eval_w.bias",
        torch.tensor([torch.nan]),
        "weight 'sim_enc.sim_eval_w.bias' holds NaN or infinity; was it saved after training diverged?",
    ),
    "infinity": ("sim_enc.sim_eval_w.bias", torch.tensor([-torch.inf]), "'sim_enc.sim_eval_w.bias' holds NaN or inf"),
    "beyond float32": (
        "sim_enc.sim_eval_w.bias",
        torch.tensor([1e300], dtype=torch.float64),
        "'sim_enc.sim_eval_w.bias' holds NaN or inf",
    ),
    "integers": (
        "sim_enc.sim_eval_w.bias",
        torch.tensor([1]),
        "weight 'sim_enc.sim_eval_w.bias' holds torch.int64; right would be floating-point numbers",
    ),
    "no tensor": (
        "sim_enc.sim_eval_w.bias",
        [0.5],
        "weight 'sim_enc.sim_eval_w.bias' is of type list; it must be a dense tensor",
    ),
    "expanded": (
        "txt_enc.embed.weight",
        torch.zeros(1).expand(WORDS, 32),
        "weight 'txt_enc.embed.weight' claims 8448 bytes of 4 that are stored; it is damaged",
    ),
    "both kinds": (
        "sim_enc.SAF_module.attn_sim_w.bias",
        torch.ones(1),
        "of the weights sim_enc.SGR_module.* and sim_enc.SAF_module.* it holds both; right would be one",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("flat", [True, False])
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
    assert "it holds neither; right would be one: only SGR and SAF are supported" in refusal(tmp_path / "model.pth")


def test_more_weights_than_the_file_has_bytes(net: Net, tmp_path: Path) -> None:
    torch.save({"nets": [net] * 3}, tmp_path / "model.pth")
    size = (tmp_path / "model.pth").stat().st_size
    claimed = 3 * sum(weight.numel() * weight.element_size() for weight in net.values())
    assert claimed > size
    assert f"claims {claimed} bytes of weights in a file of {size}; it is damaged" in refusal(tmp_path / "model.pth")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({}, "it is empty"),
        ({"epoch": 1, "state_dict": {"fc.weight": torch.ones(2)}}, "its keys are 'epoch', 'state_dict'"),
        ({"model": [{"fc.weight": torch.ones(2)}, {"rnn.weight": torch.ones(2)}]}, "its keys are 'model'"),
        ({"model": [{}, {}, {}]}, "its keys are 'model'"),
        (dict.fromkeys(range(9)), "its keys are 0, 1, 2, 3, 4, 5, ..."),
        (torch.ones(3), "it is of type Tensor"),
        (["net"], "it is of type list"),
        ("net", "it is of type str"),
    ],
    ids=str,
)
def test_a_file_without_networks(content: object, found: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pth")
    right = "right would be weights called img_enc.*, txt_enc.*, sim_enc.*, or a list of the weights of these three"
    assert refusal(tmp_path / "model.pth").startswith(f"holds no SGR or SAF network ({found}); {right}")


# Files that are not checkpoints


class Command:
    """What a hostile file holds: unpickling it runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("key", ["opt", "net"])
def test_a_hostile_checkpoint_is_not_executed(zipped: bool, key: str, net: Net, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "model.pth"
    torch.save({"net": net, key: Command(marker)}, path, _use_new_zipfile_serialization=zipped)
    system = f"{os.system.__module__}.system"
    assert refusal(path).startswith(f"holds `{system}`, which is not data; it was not executed. A checkpoint holds")
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # the file does what it is refused for


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_is_not_executed(protocol: int, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "model.pth"
    path.write_bytes(pickle.dumps({"net": Command(marker)}, protocol))
    assert refusal(path).startswith(f"holds `{os.system.__module__}.system`, which is not data; it was not executed.")
    assert not marker.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (bytearray(b"x"), "__builtin__.bytearray"),
        ({1}, "__builtin__.set"),
        (Path("x"), "pathlib."),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (np.ones(2), "numpy._core.multiarray._reconstruct"),
    ],
    ids=["bytearray", "set", "Path", "module", "array"],
)
def test_other_types_are_refused_by_name(value: object, name: str, zipped: bool, net: Net, tmp_path: Path) -> None:
    torch.save({"net": net, "more": value}, tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    line = refusal(tmp_path / "model.pth").replace("numpy.core", "numpy._core")
    assert line.startswith(f"holds `{name}")
    assert "which is not data; it was not executed." in line


def rezipped(path: Path, method: int) -> None:
    with zipfile.ZipFile(OFFICIAL) as old, zipfile.ZipFile(path, "w", method) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))


def test_a_hostile_part_is_found_whatever_its_case(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(OFFICIAL) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            hostile = entry.filename.endswith("data.pkl")
            name = entry.filename.replace("data.pkl", "Data.PKL")
            new.writestr(name, pickle.dumps(Command(tmp_path / "marker"), 2) if hostile else old.read(entry))
    assert refusal(path).startswith(f"holds `{os.system.__module__}.system`, which is not data; it was not executed.")
    assert not (tmp_path / "marker").exists()


def test_compressed_parts_are_refused(tmp_path: Path) -> None:
    rezipped(tmp_path / "stored.pth", zipfile.ZIP_STORED)
    assert read_checkpoint(tmp_path / "stored.pth").kinds == ["sgr"]
    rezipped(tmp_path / "deflated.pth", zipfile.ZIP_DEFLATED)
    line = refusal(tmp_path / "deflated.pth")
    assert line.startswith("its part official_sgr.pth/data.pkl is compressed, which torch.save never does; right would")


def test_parts_that_overlap_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    rezipped(path, zipfile.ZIP_STORED)
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(20):
            entry = copy.copy(archive.getinfo("official_sgr.pth/data/4"))
            entry.filename = f"official_sgr.pth/data/more{number}"
            archive.filelist.append(entry)
        archive.writestr("end", b"")  # so that the directory is written again
    size = path.stat().st_size
    line = refusal(path)
    assert line.startswith("claims parts of ")
    assert f"but is a file of {size} bytes; right would be a checkpoint as torch.save writes it" in line


KINDS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty; right would be a checkpoint as torch.save writes it, for example model_best.pth.tar"),
    "text": (b"<!DOCTYPE html>\n", "is not a file of torch.save (it begins with b'<!DOCTYPE ht'); right would be"),
    "pickle": (pickle.dumps({"net": [1.0]}), "is a pickle, but not one of torch.save; right would be"),
    "start of zip": (b"PK\x03\x04", "is cut off or damaged (BadZipFile while reading it); copy or download it again"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_other_kinds(kind: str, tmp_path: Path) -> None:
    content, message = KINDS[kind]
    (tmp_path / "model.pth").write_bytes(content)
    assert refusal(tmp_path / "model.pth").startswith(message)


def test_another_zip_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", x=np.ones(2))
    assert refusal(tmp_path / "model.npz").startswith("is a zip archive without a data.pkl; right would be")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.9, 0.999])
def test_cut_files(zipped: bool, share: float, official: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(official, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert refusal(path).endswith("while reading it); copy or download it again")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_damaged_bytes_end_in_one_line_or_do_no_harm(zipped: bool, official: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(official, path, _use_new_zipfile_serialization=zipped)
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    lines = []
    for place in rng.integers(0, 9000, 60):  # where the pickles are
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except UserError as error:
            lines.append(str(error))
    assert len(lines) > 10
    assert not [line for line in lines if "\n" in line]


def test_a_storage_that_claims_more_than_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"x": torch.ones(10)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    place = content.index(b"K\x0a", content.index(b"cpu"))
    path.write_bytes(content[:place] + b"J" + (10**9).to_bytes(4, "little") + content[place + 2 :])
    assert refusal(path).startswith("is cut off or damaged (")


# Datasets that do not fit


def built(dataset: Dataset) -> Callable[[Checkpoint], object]:
    return lambda found: found.build(dataset)


@pytest.mark.parametrize("rows", [WORDS - 1, WORDS + 2])
def test_another_vocabulary(rows: int, net: Net, f30k: Dataset, tmp_path: Path) -> None:
    net["txt_enc.embed.weight"] = torch.ones(rows, 32)
    torch.save({"net": net}, tmp_path / "model.pth")
    assert refusal(tmp_path / "model.pth", built(f30k)) == (
        f"vocabulary of {rows} words, dataset f30k has {WORDS} (or {WORDS + 1} with <mask>); "
        "was it trained on another data set?"
    )


@pytest.mark.parametrize(("regions", "dim"), [(35, 24), (36, 20)])
def test_other_features(regions: int, dim: int, net: Net, f30k: Dataset, tmp_path: Path) -> None:
    net["img_enc.fc.weight"] = net["img_enc.fc.weight"][:, :dim].clone()
    for name in net:
        if name.startswith("sim_enc.v_global_w.embedding_local.1.") and net[name].ndim:
            net[name] = net[name][:regions].clone()
    torch.save({"net": net}, tmp_path / "model.pth")
    assert refusal(tmp_path / "model.pth", built(f30k)) == (
        f"images of {regions} regions by {dim} dimensions, dataset f30k has 36 by 24; was it trained on other features?"
    )


# Runs of ours

SPEC = RunSpec(
    dataset="tiny",
    dataset_version="1",
    dataset_digest="d" * 64,
    protocol="clean",
    protocol_version="clean",
    unit="clean",
    noise=0.0,
    noise_digest="n" * 64,
    method="quick",
    settings={},
    backbone="vse",
    sizes={"embed": 16, "similarity": 8, "word": 8, "dropout": 0.0},
    budget=Budget(1.0),
    evaluations=1,
    seed=0,
)


def record(
    folder: Path, dataset: Dataset, kinds: tuple[str, ...] = ("vse", "vse"), head: int = 0, **changes: Any
) -> list[Backbone]:
    """Write as much of a record as is read, of a run with networks of `kinds`, and return these."""
    folder.mkdir()
    spec = replace(SPEC, **changes)
    given: dict[str, Any] = dict(SPEC.sizes)
    sizes = Sizes(dataset.image_dim, dataset.n_regions, len(dataset.vocabulary), head=head, **given)
    networks = [build_backbone(kind, sizes) for kind in kinds]
    (folder / "spec.json").write_text(json.dumps(spec.to_dict()))
    states = enumerate(network.state_dict() for network in networks)
    save_file({f"{n}.{name}": w for n, state in states for name, w in state.items()}, folder / "model.safetensors")
    return networks


@pytest.mark.parametrize("kinds", [("vse",), ("saf", "saf"), ("sgr", "sgr")])
@pytest.mark.parametrize("name", ["", "model.safetensors"], ids=["folder", "file"])
def test_a_run(kinds: tuple[str, ...], name: str, tiny: Dataset, tmp_path: Path) -> None:
    networks = record(tmp_path / "run", tiny, kinds, backbone=kinds[0])
    found = read_checkpoint(tmp_path / "run" / name)
    assert (list(found.kinds), found.epoch) == (list(kinds), None)
    assert found.path == tmp_path / "run" / "model.safetensors"
    np.testing.assert_array_equal(similarities(found.build(tiny), tiny), similarities(networks, tiny))


@pytest.mark.parametrize("kinds", [("sgr", "saf"), ("sgr", "sgr", "saf", "saf")])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_members_of_an_ensemble(kinds: tuple[str, ...], precision: str, tiny: Dataset, tmp_path: Path) -> None:
    networks = record(tmp_path / "run", tiny, kinds, backbone="sgraf", precision=precision)
    found = read_checkpoint(tmp_path / "run")
    assert tuple(found.kinds) == kinds
    built_again = found.build(tiny)
    assert [type(network) for network in built_again] == [type(network) for network in networks]
    np.testing.assert_array_equal(similarities(built_again, tiny), similarities(networks, tiny))


@pytest.mark.parametrize(
    ("kinds", "backbone"),
    [(("vse",), "vse"), (("vse-infinity",), "vse-infinity"), (("saf", "saf"), "saf"), (("sgr", "saf"), "sgraf")],
)
def test_a_run_of_a_method_that_brings_its_head(
    kinds: tuple[str, ...], backbone: str, tiny: Dataset, tmp_path: Path
) -> None:
    networks = record(tmp_path / "run", tiny, kinds, head=5, backbone=backbone)
    found = read_checkpoint(tmp_path / "run")
    assert tuple(found.kinds) == kinds
    built_again = found.build(tiny)
    assert [network.sizes.head for network in built_again] == [5] * len(kinds)
    np.testing.assert_array_equal(similarities(built_again, tiny), similarities(networks, tiny))


@pytest.mark.parametrize(("kind", "shape"), [("scan-t2i-lse", (3, 4)), ("vse", ()), ("vse", (0, 4)), ("saf", (3,))])
def test_a_head_that_is_none(kind: str, shape: tuple[int, ...], tiny: Dataset, tmp_path: Path) -> None:
    (network,) = record(tmp_path / "run", tiny, (kind,), backbone=kind)
    path = tmp_path / "run" / "model.safetensors"
    save_file({**{f"0.{n}": w for n, w in network.state_dict().items()}, "0.head.0.weight": torch.ones(shape)}, path)
    with pytest.raises(UserError, match="head"):
        read_checkpoint(tmp_path / "run").build(tiny)


def test_a_network_that_is_no_member_of_the_ensemble(tiny: Dataset, tmp_path: Path) -> None:
    record(tmp_path / "run", tiny, ("sgr", "vse"), backbone="sgraf")
    with pytest.raises(UserError, match=r"which no SGRAF has|which every SGRAF has"):
        read_checkpoint(tmp_path / "run").build(tiny)


def test_a_run_from_before_there_were_precisions(tiny: Dataset, tmp_path: Path) -> None:
    networks = record(tmp_path / "run", tiny)
    content = json.loads((tmp_path / "run" / "spec.json").read_text())
    assert content.pop("precision") == "float32"
    (tmp_path / "run" / "spec.json").write_text(json.dumps(content))
    found = read_checkpoint(tmp_path / "run")
    np.testing.assert_array_equal(similarities(found.build(tiny), tiny), similarities(networks, tiny))


def test_a_run_on_another_dataset(
    tiny: Dataset, f30k: Dataset, make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    record(tmp_path / "run", tiny)
    for other, name in (
        (f30k, f"f30k (content {f30k.digest[:8]})"),
        (make_dataset(digest="e" * 64), "tiny (content e"),
    ):
        with pytest.raises(UserError, match=r"model\.safetensors: was trained on tiny \(content dddddddd\)") as caught:
            read_checkpoint(tmp_path / "run").build(other)
        assert f"; the dataset to evaluate on is {name}" in str(caught.value)


@pytest.mark.parametrize("lacking", ["spec.json", "model.safetensors"])
def test_a_folder_without_a_run(lacking: str, tiny: Dataset, tmp_path: Path) -> None:
    record(tmp_path / "run", tiny)
    (tmp_path / "run" / lacking).unlink()
    assert refusal(tmp_path / "run") == (
        f"lacks {lacking}; right would be the folder of a finished run or a checkpoint"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "vsx"}, "cannot be read as the record of a run (unknown backbone 'vsx'. Did you mean 'vse'?"),
        (
            {"sizes": {"embed": -1}},
            "cannot be read as the record of a run (size 'embed' is -1); restore it or run again",
        ),
        ({"sizes": {"embed": "x"}}, "(size 'embed' is 'x')"),
        ({"sizes": {"imbed": 1}}, "(size 'imbed' is 1)"),
        ({"sizes": [1]}, "(sizes [1])"),
    ],
    ids=str,
)
def test_damaged_specs(changes: dict[str, Any], message: str, tiny: Dataset, tmp_path: Path) -> None:
    record(tmp_path / "run", tiny, **changes)
    assert message in refusal(tmp_path / "run")


def test_a_spec_of_another_form(tiny: Dataset, tmp_path: Path) -> None:
    record(tmp_path / "run", tiny)
    (tmp_path / "run" / "spec.json").write_text('{"schema": 1, "form": 2}')
    assert "cannot be read as the record of a run (" in refusal(tmp_path / "run")
    (tmp_path / "run" / "spec.json").write_text("{")
    with pytest.raises(UserError, match=r"spec\.json: cannot be read as a run record"):
        read_checkpoint(tmp_path / "run")


def test_damaged_weights_of_a_run(tiny: Dataset, tmp_path: Path) -> None:
    (network,) = record(tmp_path / "run", tiny, ("vse",))
    path = tmp_path / "run" / "model.safetensors"
    weights = {f"0.{name}": weight for name, weight in network.state_dict().items()}
    whole = path.read_bytes()
    for content in (b"", b"x" * 100, whole[:-10]):
        path.write_bytes(content)
        assert "cannot be read as the record of a run (" in refusal(tmp_path / "run")
    for changed in ({"x.y": torch.ones(1)}, {f"1{name[1:]}": weight for name, weight in weights.items()}):
        save_file(changed, path)
        assert "cannot be read as the record of a run (" in refusal(tmp_path / "run")
    save_file({**weights, "0.project.bias": torch.full((16,), torch.nan)}, path)
    assert "weight 'project.bias' holds NaN or infinity" in refusal(path)
    save_file({**weights, "0.project.bias": torch.ones(15)}, path)
    line = refusal(path, built(tiny))
    assert line == "weight 'project.bias' has shape (15,); right would be (16,)"
    save_file({name: weight for name, weight in weights.items() if name != "0.project.bias"}, path)
    assert refusal(path, built(tiny)).startswith("lacks the weight 'project.bias', which every VSE has")
    save_file({**weights, "0.more": torch.ones(1)}, path)
    assert refusal(path, built(tiny)).startswith("holds the weight 'more', which no VSE has")


# Names


def test_published_names_and_ours_are_inverse(net: Net) -> None:
    ours = names.rename_published(net)
    assert [names.published_name(name) for name in ours] == list(net)
    with pytest.raises(KeyError, match=r"unheard\.of"):
        names.published_name("unheard.of")


def test_unread_values_hold_nothing(official: dict[str, Any]) -> None:
    content: Any = read_torch_file(OFFICIAL)
    assert vars(official["opt"])["vocab_size"] == WORDS
    assert vars(content["opt"]) == {}
