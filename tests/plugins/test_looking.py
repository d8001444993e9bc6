"""Looking never executes: files in the working directory, and files that records name, run only where a person names
them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from runs import prepare_run
from toy_methods import Toy

from ncbench import UserError
from ncbench.cli import main
from ncbench.data.dataset import Dataset
from ncbench.data.registry import check_dataset, dataset_source, load_recorded
from ncbench.method.registry import load_method
from ncbench.noise.registry import load_protocol
from ncbench.records.record import Record
from ncbench.runtime.files import write_json
from ncbench.sweeps.replay import plan_again

MARK = 'import pathlib\npathlib.Path("ran").touch()\n'
METHOD = (
    MARK
    + """
from dataclasses import dataclass
from ncbench import Method, TrainingSettings

class X(Method):
    '''What it does.'''
    name = "zz_method"

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        pass
"""
)
DATASET = (
    MARK
    + 'class X:\n    name = "flowers"\n    summary = "Flowers."\n    needs_root = False\n    def load(self, r): ...\n'
)
NOISE = (
    MARK + 'from ncbench import NoiseProtocol\nX = NoiseProtocol("zz_noise", "1", "images", "Noise.", lambda r: None)\n'
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a plugin of each kind; each leaves the file `ran` behind if it is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NCBENCH_PLUGINS", raising=False)
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))
    for folder, text in (("methods", METHOD), ("datasets", DATASET), ("noise", NOISE)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(text)
    return tmp_path


def call(*words: str) -> Result:
    return CliRunner().invoke(main, words)


@pytest.mark.parametrize(
    ("command", "name", "summary"),
    [
        ("methods list", "zz_method", "What it does."),
        ("data list", "flowers", "Flowers."),
        ("noise list", "zz_noise", "Noise."),
    ],
)
def test_lists_read_files_as_text(command: str, name: str, summary: str, here: Path) -> None:
    result = call(*command.split())
    (row,) = (line for line in result.stdout.splitlines() if name in line)
    assert summary in row
    assert "file (not run)" in result.stdout
    listed = json.loads(call(*command.split(), "--json").stdout)
    assert {"name": name, "summary": summary}.items() <= next(each for each in listed if each["name"] == name).items()
    assert not (here / "ran").exists()


@pytest.mark.parametrize(
    "command", ["doctor", "run --help", "methods show triplet", "runs", "report", "verify .", "completion bash"]
)
def test_commands_that_look(command: str, here: Path) -> None:
    call(*command.split())
    assert not (here / "ran").exists()


@pytest.mark.parametrize(
    "name", ["flowers", "datasets/mine.py", "./mine.py", "hf:somewhere", "mine.toml", "../flowers"]
)
def test_the_name_of_a_dataset_in_a_record_runs_nothing(name: str, here: Path) -> None:
    (here / "mine.py").write_text(DATASET)
    with pytest.raises(UserError):
        load_recorded(name, "1", "0" * 64, None)
    assert not (here / "ran").exists()


def test_files_that_are_named_are_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_method("zz_method").name == "zz_method"  # by --method
    (here / "ran").unlink()
    for load in (
        lambda: dataset_source("flowers", run_found=False),
        lambda: load_method("zz_method", run_found=False),
    ):
        with pytest.raises(UserError, match=r"mine\.py, which is only run where you name it; .* NCBENCH_PLUGINS"):
            load()
    assert not (here / "ran").exists()
    monkeypatch.setenv("NCBENCH_PLUGINS", str(here / "datasets/mine.py"))
    assert dataset_source("flowers", run_found=False).name == "flowers"


@pytest.mark.parametrize("load", [load_method, load_protocol])
def test_only_python_files_are_run(load: Callable[[str], object], here: Path) -> None:
    (here / "methods/mine.csv").write_text(MARK)
    with pytest.raises(UserError, match=r"mine\.csv: expected a Python file"):
        load("methods/mine.csv")
    assert not (here / "ran").exists()


@pytest.mark.parametrize("name", ["table.csv", "data/table.csv", "data"])
def test_data_files_are_no_plugins(name: str, here: Path) -> None:
    (here / "data").mkdir()
    for path in (here / "table.csv", here / "data/table.csv"):
        path.write_text(MARK)
    for check in (check_dataset, dataset_source):
        with pytest.raises(UserError, match=rf"did you mean hf:{name}\?"):
            check(name)
    assert not (here / "ran").exists()


@pytest.mark.parametrize("name", ["zz_noise", "noise/mine.py", "./noise/mine.py"])
def test_a_replay_runs_no_protocol_that_only_the_record_names(name: str, here: Path, tiny: Dataset) -> None:
    run = prepare_run(tiny, here / "runs/tiny/toy/0", Toy, budget=1.0, evaluations=1)
    spec = {**run.spec.to_dict(), "protocol": name}
    write_json(run.folder / "spec.json", spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Record, "dataset", lambda self, root: tiny)
        with pytest.raises(UserError, match=r"which is only run where you name it|is a path"):
            plan_again(run.folder, None)
    assert not (here / "ran").exists()


def test_an_unknown_protocol_runs_no_file_for_its_message(here: Path) -> None:
    with pytest.raises(UserError, match=r"unknown noise protocol 'typo'.*zz_noise"):
        load_protocol("typo")
    assert not (here / "ran").exists()
