"""One door to a record: what is read, and how damaged files are reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_records import made_result
from runs import prepare_run
from sources import Source
from toy_methods import Toy

from ncbench import UserError
from ncbench.data.dataset import Dataset
from ncbench.records.record import Record
from ncbench.records.result import Result
from ncbench.runtime.files import write_json

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def run(tiny: Dataset, tmp_path: Path, register: Callable[..., None]) -> Record:
    """Return the record of a run on `tiny`."""
    register("ncbench.datasets", "tiny", Source(tiny))
    run = prepare_run(tiny, tmp_path / "run", Toy)
    write_json(tmp_path / "run" / "spec.json", run.spec.to_dict())
    run.execute()
    return Record(tmp_path / "run")


@pytest.fixture
def spec_only(tiny: Dataset, tmp_path: Path, register: Callable[..., None]) -> Record:
    """Return the record of a run on `tiny` that has not begun."""
    register("ncbench.datasets", "tiny", Source(tiny))
    write_json(tmp_path / "spec.json", prepare_run(tiny, tmp_path / "run", Toy).spec.to_dict())
    return Record(tmp_path)


def change(path: Path, how: Change) -> None:
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def refused(read: Callable[[], object], path: Path) -> str:
    """Return the rest of the error message, which is one line and begins with the path."""
    with pytest.raises(UserError) as caught:
        read()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message.removeprefix(f"{path}: ")


def test_what_a_run_writes_is_read_as_it_was(run: Record) -> None:
    assert run.finished
    assert run.result.spec == run.spec
    assert run.result.to_dict() == run.content("result.json")
    assert run.measurements is not None
    assert run.measurements.to_dict() == run.content("measurements.json")
    assert run.measurements.environment.device == "cpu"
    assert run.history[-1].work == run.result.work.used
    assert run.ranks["test"].retrieval().rsum == run.result.metrics.test.rsum
    assert run.top_k is not None
    assert run.beliefs is not None
    assert run.origin() is None


def test_what_may_be_missing(spec_only: Record, tiny: Dataset) -> None:
    assert (spec_only.spec.dataset, spec_only.spec.method, spec_only.spec.noise) == ("tiny", "toy", 0.4)
    assert spec_only.dataset(None) is tiny
    assert not spec_only.finished
    assert (spec_only.measurements, spec_only.top_k, spec_only.beliefs) == (None, None, None)
    assert spec_only.history == []
    assert spec_only.public_measurements() == {}
    for name in ("result", "ranks"):
        with pytest.raises(UserError, match="No such file"):
            getattr(spec_only, name)


@pytest.mark.parametrize("name", ["spec", "result", "measurements"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be read as a run record (Input data was truncated); restore it or delete its folder"),
        (b"", "cannot be read as a run record ("),
        (b"\xff\xfe", "cannot be read as a run record ("),
        (b"[" * 100_000, "cannot be read as a run record ("),
        (b'{"schema": 1, "seconds": NaN}', "cannot be read as a run record ("),
        (b"[]", "schema None is not supported (expected 1)"),
        (b"{}", "schema None is not supported (expected 1)"),
        (b'{"schema": 99}', "schema 99 is not supported (expected 1)"),
        (b'{"schema": 1}', "is damaged or was written by another version of ncbench ("),
    ],
)
def test_damaged_files(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.json"
    path.write_bytes(content)
    assert refused(lambda: getattr(Record(tmp_path), name), path).startswith(message)


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        (lambda spec: spec.update(colour="red"), "unknown fields colour"),
        (lambda spec: spec.pop("backbone"), "object missing required field `backbone`"),
        (lambda spec: spec.update(dataset=["x"]), "dataset: expected `str`, got `array`"),
        (lambda spec: spec.update(seed=1.5), "seed: expected `int`, got `float`"),
        (lambda spec: spec.update(noise=1.5), "noise: expected `float` < 1.0"),
        (lambda spec: spec.update(evaluations=0), "evaluations: expected `int` >= 1"),
        (lambda spec: spec.update(precision="int8"), "precision: invalid enum value 'int8'"),
        (lambda spec: spec.update(sizes={"embed": "16"}), "sizes[...]: expected `int | float`, got `str`"),
        (lambda spec: spec.update(budget=0), "a budget must be "),
        (lambda spec: spec.update(budget="5"), "budget: expected `int | float`, got `str`"),
        (lambda spec: spec.update(budget_unit="days"), "budget_unit: invalid enum value 'days'"),
        (lambda spec: spec.pop("budget"), "budget: expected `int | float`, got `null`"),
        (lambda spec: spec.update(dataset="../x"), "dataset: '../x' is not a valid name"),
        (lambda spec: spec.update(noise_digest="/etc/passwd"), "noise_digest: '/etc/passwd' is not a valid name"),
    ],
)
def test_specs_of_wrong_content(how: Change, problem: str, spec_only: Record) -> None:
    path = spec_only.folder / "spec.json"
    change(path, how)
    assert problem in refused(lambda: spec_only.spec, path)


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        (lambda result: result.update(spec=1), "spec: expected `object`, got 1"),
        (lambda result: result["spec"].update(seed="0"), "spec.seed: expected `int`, got `str`"),
        (lambda result: result["metrics"]["test"].update(rsum="600"), "metrics.test.rsum: expected `float`, got `str`"),
        (lambda result: result["metrics"]["test"]["i2t"].pop("r1"), "metrics.test.i2t: object missing required field"),
        (lambda result: result["selected"].update(share=1.5), "selected.share: expected `float` <= 1.0"),
        (lambda result: result["work"].update(used=-1), "work.used: expected `int` >= 0"),
        (lambda result: result["work"].update(used=10**40), "work: `used` must be at most 1e+30"),
        (lambda result: result["work"].update(budget=None), "`work` has neither `baseline_epoch` nor `budget`"),
        (lambda result: result.update(told_clean=True), "told_clean: expected `int`, got `bool`"),
        (lambda result: result.update(beliefs={"detection": {}}), "beliefs.detection: object missing required field"),
    ],
)
def test_results_of_wrong_content(how: Change, problem: str, record: Callable[..., Path]) -> None:
    folder = record()
    change(folder / "result.json", how)
    assert problem in refused(lambda: Record(folder).result, folder / "result.json")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"seconds": {"training": -1.0, "evaluation": 1.0}}, "seconds.training: expected `float` >= 0.0"),
        ({"seconds": {"training": 1.0}}, "seconds: object missing required field `evaluation`"),
        ({"seconds": 3}, "seconds: expected `object`, got `int`"),
        ({}, "object missing required field `seconds`"),
    ],
)
def test_measurements_of_wrong_content(content: dict[str, Any], problem: str, tmp_path: Path) -> None:
    path = tmp_path / "measurements.json"
    write_json(path, {"schema": 1, **content})
    assert problem in refused(lambda: Record(tmp_path).measurements, path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "cannot be read as a run record ("),
        ("[]\n", "[0]: expected `object`, got `array`"),
        ("{}\n", "[0]: object missing required field `backbone`"),
    ],
)
def test_histories_of_wrong_content(content: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(content)
    assert problem in refused(lambda: Record(tmp_path).history, path)


@pytest.mark.parametrize(
    ("field", "remedy"),
    [
        ("dataset_version", "version 0+ is gone, use the ncbench that recorded the run"),
        ("dataset_digest", "use the same data"),
    ],
)
def test_other_data(field: str, remedy: str, spec_only: Record) -> None:
    change(spec_only.folder / "spec.json", lambda spec: spec.update({field: "0" * 64}))
    with pytest.raises(UserError, match=rf": the run used tiny version .*, found version .*; {remedy}$"):
        spec_only.dataset(None)


def test_integers_stay_integers(spec_only: Record) -> None:
    """The id is a hash of the JSON text, where 4 and 4.0 differ."""
    path = spec_only.folder / "spec.json"
    change(path, lambda spec: spec.update(budget=4, sizes={"embed": 16, "dropout": 0.5}))
    assert json.dumps(spec_only.spec.to_dict(), sort_keys=True) == json.dumps(
        json.loads(path.read_text()), sort_keys=True
    )


def test_a_result_survives_json(spec_only: Record) -> None:
    result = made_result(spec_only.spec)
    content = json.loads(json.dumps(result.to_dict()))
    assert Result.from_dict(content) == result
    assert {"told_truth", "told_clean", "schema"} < content.keys()


def test_commands_have_no_absolute_paths(tmp_path: Path) -> None:
    words = ["run", "--out", "a/b", "--data-root", "/home/somebody/data", "--method=/home/somebody/mine.py", "-x=1/2"]
    environment = {"command": ["/home/somebody/bin/ncbench", *words]}
    content = {"schema": 1, "seconds": {"training": 1.0, "evaluation": 1.0}, "environment": environment}
    write_json(tmp_path / "measurements.json", content)
    found = Record(tmp_path).public_measurements()["environment"]["command"]
    assert found == ["ncbench", "run", "--out", "a/b", "--data-root", "data", "--method=mine.py", "-x=1/2"]
