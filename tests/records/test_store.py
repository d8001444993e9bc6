"""Run records: ids, folders, what is found, what is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from made_records import made_result

from ncbench import UserError
from ncbench.backbones.precision import PRECISIONS
from ncbench.budget import Budget
from ncbench.records.spec import ADDED_LATER, HARNESS, SCHEMA, RunSpec
from ncbench.records.store import Store
from ncbench.runtime.files import TEMPORARY, write_atomic, write_json

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
    "backbone_source": "ab0123456789",
    "schema": SCHEMA + 1,
    "harness": HARNESS + 1,
}
EARLIER = replace(SPEC, harness=1)


def test_id_never_changes() -> None:
    assert EARLIER.id == "c90e945ec218"
    assert replace(SPEC, harness=2).id == "3e4d109f8fda"


def test_a_spec_without_harness_is_of_the_first_one() -> None:
    content = {key: value for key, value in SPEC.to_dict().items() if key != "harness"}
    assert RunSpec.from_dict(content) == EARLIER
    assert RunSpec.from_dict(SPEC.to_dict()) == SPEC
    assert EARLIER.of_earlier_harness
    assert not SPEC.of_earlier_harness


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
    assert set(ADDED_LATER) < set(EARLIER.to_dict())
    content = {key: value for key, value in EARLIER.to_dict().items() if key not in ADDED_LATER}
    text = json.dumps(content, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest().startswith(EARLIER.id)


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
    write_json(store.start(SPEC) / "result.json", made_result(SPEC).to_dict())
    assert store.find(SPEC) == made_result(SPEC)
    assert store.find(replace(SPEC, seed=1)) is None
    (store.folder(SPEC) / "result.json").write_text("{")
    with pytest.raises(UserError, match=r"result\.json: cannot be read"):
        store.find(SPEC)


def test_results_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    store = Store(tmp_path)
    specs = [replace(SPEC, seed=n, method=m, dataset=d) for n in (1, 0) for m in ("b", "a") for d in ("y", "x")]
    for spec in specs:
        write_json(store.start(spec) / "result.json", made_result(spec).to_dict())
    store.start(replace(SPEC, seed=9))  # unfinished
    write_json(tmp_path / "tiny" / "noise" / "abc.json", {"not": "a run"})
    found = list(store.results())
    assert [record.folder for record in found] == sorted(store.folder(spec) for spec in specs)
    assert all(record.result.id == record.folder.name for record in found)


@pytest.mark.parametrize("where", ["here", "."])
def test_a_relative_folder(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "here"
    write_json(Store(root).start(SPEC) / "result.json", made_result(SPEC).to_dict())
    monkeypatch.chdir(tmp_path if where == "here" else root)
    (record,) = Store(Path(where)).results()
    assert record.folder.resolve() == Store(root).folder(SPEC)
    assert record.root == root


def test_results_of_no_folder(tmp_path: Path) -> None:
    assert list(Store(tmp_path / "missing").results()) == []


def test_unfinished_runs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.start(SPEC)
    (run,) = store.unfinished()
    assert (run.folder, run.spec, run.status, run.error) == (store.folder(SPEC), SPEC, "interrupted", "")
    write_json(store.folder(SPEC) / "result.json", made_result(SPEC).to_dict())
    assert list(store.unfinished()) == []


def test_spec_survives_json() -> None:
    assert RunSpec.from_dict(json.loads(json.dumps(SPEC.to_dict()))).id == SPEC.id


def test_what_a_killed_process_was_writing_is_removed_when_the_run_starts_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.start(SPEC)
    (folder / ".history.jsonl.3av32yoi.tmp").touch()
    (folder / "history.jsonl").write_text("{}")
    assert store.start(SPEC) == folder
    assert sorted(path.name for path in folder.iterdir()) == ["history.jsonl", "spec.json"]


def test_temporary_files_are_known_by_their_name(tmp_path: Path) -> None:
    seen: list[Path] = []
    write_atomic(tmp_path / "x.json", lambda file: seen.extend(tmp_path.glob(TEMPORARY)))
    assert len(seen) == 1
