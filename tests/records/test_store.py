"""Run records: ids, folders, what is found, what is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from ncbench import UserError
from ncbench.backbones.precision import PRECISIONS
from ncbench.budget import Budget
from ncbench.records.spec import ADDED_LATER, SCHEMA, RunSpec
from ncbench.records.store import History, Store, read_history, read_record
from ncbench.runtime.files import write_json

SPEC = RunSpec(
    dataset="tiny",
    dataset_version="1",
    dataset_digest="abc",
    protocol="shuffle-captions",
    protocol_version="1",
    unit="captions",
    noise=0.4,
    noise_digest="def",
    method="triplet",
    settings={"lr": 2e-4, "batch_size": 8},
    backbone="vse",
    sizes={"embed": 16, "dropout": 0.0},
    budget=Budget(4.0),
    evaluations=4,
    seed=0,
)

CHANGES = {
    "dataset": "other",
    "dataset_version": "2",
    "dataset_digest": "abd",
    "protocol": "shuffle-images",
    "protocol_version": "2",
    "unit": "images",
    "noise": 0.6,
    "noise_digest": "dee",
    "method": "l2rm",
    "settings": {"lr": 1e-4, "batch_size": 8},
    "backbone": "sgr",
    "sizes": {"embed": 32, "dropout": 0.0},
    "budget": Budget(4.5),
    "evaluations": 5,
    "seed": 1,
    "precision": "bf16",
    "source": "0123456789ab",
    "schema": SCHEMA + 1,
}


def test_id_never_changes() -> None:
    assert SPEC.id == "c90e945ec218"


@pytest.mark.parametrize("name", [entry.name for entry in fields(RunSpec)])
def test_every_field_is_part_of_the_id(name: str) -> None:
    changed = replace(SPEC, **{name: CHANGES[name]})
    assert changed.id != SPEC.id
    assert replace(changed, **{name: getattr(SPEC, name)}).id == SPEC.id


def test_the_unit_of_the_budget_is_part_of_the_id() -> None:
    assert replace(SPEC, budget=Budget(4.0, "seconds")).id != SPEC.id


def test_every_precision_has_an_id() -> None:
    assert len({replace(SPEC, precision=precision).id for precision in PRECISIONS}) == len(PRECISIONS) == 3


def test_records_from_before_there_were_precisions_are_float32() -> None:
    content = {key: value for key, value in SPEC.to_dict().items() if key != "precision"}
    assert RunSpec.from_dict(content) == SPEC
    assert SPEC.precision == "float32"


def test_only_the_value_of_earlier_runs_is_left_out_of_the_id() -> None:
    assert set(ADDED_LATER) < set(SPEC.to_dict())
    content = {key: value for key, value in SPEC.to_dict().items() if key not in ADDED_LATER}
    text = json.dumps(content, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest().startswith(SPEC.id)


def test_id_does_not_depend_on_the_order_of_settings() -> None:
    assert replace(SPEC, settings={"batch_size": 8, "lr": 2e-4}).id == SPEC.id


def test_id_is_twelve_hex_digits() -> None:
    assert len(SPEC.id) == 12
    assert int(SPEC.id, 16) >= 0


def test_start_notes_the_spec(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.start(SPEC)
    assert folder == store.folder(SPEC) == tmp_path / "tiny" / "triplet" / SPEC.id
    assert RunSpec.from_dict(json.loads((folder / "spec.json").read_text())) == SPEC
    assert store.find(SPEC) is None  # it is not finished


def test_find_a_finished_run(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find(SPEC) is None
    result = {"schema": SCHEMA, "metrics": 1}
    write_json(store.start(SPEC) / "result.json", result)
    assert store.find(SPEC) == result
    assert store.find(replace(SPEC, seed=1)) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be read as a run record ("),
        (b"", "cannot be read as a run record ("),
        (b"\xff\xfe", "cannot be read as a run record ("),
        (b"[]", "is of schema None, this version of ncbench reads 1."),
        (b"{}", "is of schema None, this version of ncbench reads 1."),
        (b'{"schema": 99}', "is of schema 99, this version of ncbench reads 1."),
    ],
)
def test_damaged_records(tmp_path: Path, content: bytes, message: str) -> None:
    store = Store(tmp_path)
    path = store.start(SPEC) / "result.json"
    path.write_bytes(content)
    for read in (lambda: read_record(path), lambda: store.find(SPEC), lambda: list(store.results())):
        with pytest.raises(UserError) as caught:
            read()
        assert str(caught.value).startswith(f"{path}: {message}")


def test_damaged_record_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"; restore it or delete its folder\.$"):
        read_record(tmp_path / "missing.json")


def test_results_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    store = Store(tmp_path)
    specs = [replace(SPEC, seed=n, method=m, dataset=d) for n in (1, 0) for m in ("b", "a") for d in ("y", "x")]
    for number, spec in enumerate(specs):
        folder = store.start(spec)
        write_json(folder / "result.json", {"schema": SCHEMA, "id": spec.id})
        if number % 2:
            write_json(folder / "measurements.json", {"schema": SCHEMA, "of": spec.id})
    store.start(replace(SPEC, seed=9))  # unfinished
    write_json(tmp_path / "tiny" / "noise" / "abc.json", {"not": "a run"})
    found = list(store.results())
    assert [folder for folder, _, _ in found] == sorted(store.folder(spec) for spec in specs)
    for folder, result, measurements in found:
        number = [spec.id for spec in specs].index(folder.name)
        assert result["id"] == folder.name
        assert measurements == ({"schema": SCHEMA, "of": folder.name} if number % 2 else {})


def test_results_of_no_folder(tmp_path: Path) -> None:
    assert list(Store(tmp_path / "missing").results()) == []


def test_history_grows_by_lines(tmp_path: Path) -> None:
    assert read_history(tmp_path) == []
    history = History(tmp_path / "history.jsonl")
    lines = []
    for number in range(3):
        lines.append({"share": number / 2, "loss": None})
        history.add(**lines[-1])
        assert read_history(tmp_path) == lines
    assert (tmp_path / "history.jsonl").read_text().count("\n") == 3


def test_a_second_execution_starts_a_history_of_its_own(tmp_path: Path) -> None:
    History(tmp_path / "history.jsonl").add(share=0.1)
    History(tmp_path / "history.jsonl").add(share=0.2)
    assert read_history(tmp_path) == [{"share": 0.2}]


def test_spec_survives_json() -> None:
    assert RunSpec.from_dict(json.loads(json.dumps(SPEC.to_dict()))).id == SPEC.id
