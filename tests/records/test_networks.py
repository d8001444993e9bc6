"""Networks read from the records of runs, and records that are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import built, refusal, similarities
from places import FIXTURES
from safetensors.torch import save_file

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.budget import Budget
from ncbench.data.dataset import Dataset
from ncbench.data.registry import load_dataset
from ncbench.errors import UserError
from ncbench.records.networks import read_checkpoint
from ncbench.records.spec import RunSpec


@pytest.fixture(scope="module")
def f30k() -> Dataset:
    return load_dataset("f30k", FIXTURES / "published_sgr")


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
    given: dict[str, Any] = dict(SPEC.sizes)
    sizes = Sizes(dataset.image_dim, dataset.n_regions, len(dataset.vocabulary), head=head, **given)
    networks = [build_backbone(kind, sizes) for kind in kinds]
    (folder / "spec.json").write_text(json.dumps({**SPEC.to_dict(), **changes}))
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
    with pytest.raises(UserError, match=r"(unexpected weight|weight) .* SGRAF"):
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
    assert lacking in refusal(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "vsx"}, "unknown backbone 'vsx'. Did you mean 'vse'?"),
        ({"sizes": {"embed": -1}}, "(size 'embed' is -1)"),
        ({"sizes": {"embed": "x"}}, "sizes[...]: expected `int | float`, got `str`"),
        ({"sizes": {"imbed": 1}}, "(size 'imbed' is 1)"),
        ({"sizes": [1]}, "sizes: expected `object`, got `array`"),
    ],
    ids=str,
)
def test_damaged_specs(changes: dict[str, Any], message: str, tiny: Dataset, tmp_path: Path) -> None:
    record(tmp_path / "run", tiny, **changes)
    with pytest.raises(UserError) as caught:
        read_checkpoint(tmp_path / "run")
    assert message in str(caught.value)


def test_a_spec_of_another_form(tiny: Dataset, tmp_path: Path) -> None:
    record(tmp_path / "run", tiny)
    (tmp_path / "run" / "spec.json").write_text('{"schema": 1, "form": 2}')
    with pytest.raises(UserError, match=r"spec\.json: .*another version of ncbench"):
        read_checkpoint(tmp_path / "run")
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
        assert "cannot be read as a run record (" in refusal(tmp_path / "run")
    for changed in ({"x.y": torch.ones(1)}, {f"1{name[1:]}": weight for name, weight in weights.items()}):
        save_file(changed, path)
        assert "cannot be read as a run record (" in refusal(tmp_path / "run")
    save_file({**weights, "0.project.bias": torch.full((16,), torch.nan)}, path)
    assert "weight 'project.bias' contains NaN or infinity" in refusal(path)
    save_file({**weights, "0.project.bias": torch.ones(15)}, path)
    assert "weight 'project.bias' has shape (15,), expected (16,)" in refusal(path, built(tiny))
    save_file({name: weight for name, weight in weights.items() if name != "0.project.bias"}, path)
    assert "weight 'project.bias' of VSE is missing" in refusal(path, built(tiny))
    save_file({**weights, "0.more": torch.ones(1)}, path)
    assert "unexpected weight 'more' for VSE" in refusal(path, built(tiny))
