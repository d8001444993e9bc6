"""What a record was run on: damaged specs, and data that are other ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import prepare_run
from sources import Source
from toy_methods import Toy

from ncbench import UserError
from ncbench.data.dataset import Dataset
from ncbench.records.record import TEXTS, load_data, read_measurements, read_spec
from ncbench.runtime.files import write_json


@pytest.fixture
def folder(tiny: Dataset, tmp_path: Path, register: Callable[..., None]) -> Path:
    """Return a folder that holds the spec of a run on `tiny`."""
    register("ncbench.datasets", "tiny", Source(tiny))
    content = prepare_run(tiny, tmp_path / "run", Toy).spec.to_dict()
    (tmp_path / "spec.json").write_text(json.dumps(content))
    return tmp_path


def change(folder: Path, **fields: object) -> None:
    content = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps({**content, **fields}))


def test_a_spec_and_its_data(folder: Path, tiny: Dataset) -> None:
    spec = read_spec(folder)
    assert (spec.dataset, spec.method, spec.noise) == ("tiny", "toy", 0.4)
    assert load_data(folder, spec, None) is tiny


@pytest.mark.parametrize("name", TEXTS)
def test_texts_must_be_texts(name: str, folder: Path) -> None:
    change(folder, **{name: ["x"]})
    with pytest.raises(UserError) as caught:
        read_spec(folder)
    assert str(caught.value) == f"{folder / 'spec.json'}: its {name!r} is ['x'], which is no text; restore it."


def test_specs_of_another_version(folder: Path) -> None:
    change(folder, colour="red")
    with pytest.raises(UserError, match=r"spec.json: is of another version of ncbench \(.*colour"):
        read_spec(folder)


@pytest.mark.parametrize("field", ["dataset_version", "dataset_digest"])
def test_other_data(field: str, folder: Path) -> None:
    change(folder, **{field: "0" * 64})
    with pytest.raises(UserError, match=r": was run on tiny version .*; it needs the data that it was run on\.$"):
        load_data(folder, read_spec(folder), None)


def test_commands_are_told_without_the_path_to_ncbench(tmp_path: Path) -> None:
    assert read_measurements(tmp_path) == {}
    content = {"schema": 1, "environment": {"command": ["/home/somebody/bin/ncbench", "run", "--out", "a/b"]}}
    write_json(tmp_path / "measurements.json", content)
    assert read_measurements(tmp_path)["environment"]["command"] == ["ncbench", "run", "--out", "a/b"]
