"""The command line end to end: shipped methods on a small dataset in the released format."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from places import FIXTURES

from ncbench.noise.storage import load_noise
from ncbench.records.record import Record
from ncbench.records.spec import RunSpec

ROOT = FIXTURES / "f30k"
SIZES = {"backbone.embed": 16, "backbone.word": 8, "triplet.batch_size": 16, "l2rm.batch_size": 16, "l2rm.queue": 16}
SETTINGS = [word for key, value in SIZES.items() for word in ("--set", f"{key}={value}")]
COMMON = ["run", "--dataset", "f30k", "--data-root", str(ROOT), "--method", "triplet,l2rm", "--backbone", "vse"]
COMMON += ["--noise", "0.2", "--budget", "0.4", "--evaluations", "2", "--device", "cpu", "--jobs", "1", *SETTINGS]
FILES = {
    "spec.json",
    "result.json",
    "measurements.json",
    "history.jsonl",
    "ranks.npz",
    "retrieved.npz",
    "beliefs.npz",
    "model.safetensors",
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, cli: Callable[..., Result]) -> tuple[Path, list[Any], list[str]]:
    """Return a records folder, the --json output, and the arguments: two methods and three protocols."""
    folder = tmp_path_factory.mktemp("f30k")
    index = np.arange(40)
    index[[3, 9, 12, 17, 20, 26, 31, 38]] = index[[9, 12, 17, 20, 26, 31, 38, 3]]  # a fifth of the images, exactly
    np.save(folder / "published.npy", index)
    protocols = f"file:{folder / 'published.npy'},shuffle-images,shuffle-captions"
    words = [*COMMON, "--protocol", protocols]
    result = cli(*words, "--out", folder / "runs", "--json")
    assert result.exit_code == 0, result.output
    return folder, json.loads(result.stdout), words


def test_every_run_is_done_in_the_order_of_the_grid(swept: tuple[Path, list[Any], list[str]]) -> None:
    _, outcomes, _ = swept
    assert [outcome["status"] for outcome in outcomes] == ["done"] * 6
    assert [outcome["error"] for outcome in outcomes] == [None] * 6
    published = f"file:published.npy@{outcomes[0]['result']['spec']['noise_digest'][:8]}"
    specs = [RunSpec.from_dict(outcome["result"]["spec"]) for outcome in outcomes]
    assert [(spec.protocol, spec.unit, spec.method) for spec in specs] == [
        (protocol, unit, method)
        for protocol, unit in [(published, "images"), ("shuffle-images", "images"), ("shuffle-captions", "captions")]
        for method in ("triplet", "l2rm")
    ]
    for spec in specs:
        assert (spec.dataset, spec.backbone, spec.noise, spec.budget.amount, spec.seed) == ("f30k", "vse", 0.2, 0.4, 0)
        assert (spec.evaluations, spec.sizes["embed"], spec.settings["batch_size"]) == (2, 16, 16)
    assert "queue" not in specs[0].settings
    assert specs[1].settings["queue"] == 16


def test_records_are_written_whole(swept: tuple[Path, list[Any], list[str]]) -> None:
    folder, outcomes, _ = swept
    for outcome in outcomes:
        where, spec = Path(outcome["folder"]), RunSpec.from_dict(outcome["result"]["spec"])
        assert where == folder / "runs" / "f30k" / spec.method / spec.id
        assert {path.name for path in where.iterdir()} == FILES
        assert json.loads((where / "result.json").read_text()) == outcome["result"]
        assert RunSpec.from_dict(json.loads((where / "spec.json").read_text())) == spec
        assert [line["updates"] for line in Record(where).history_lines()][-1] == outcome["result"]["work"]["updates"]
        ranks = np.load(where / "ranks.npz")
        assert 100 * np.mean(ranks["i2t"] < 1) == pytest.approx(outcome["result"]["metrics"]["test"]["i2t"]["r1"])
    assert len(list((folder / "runs" / "f30k" / "noise").glob("*.npy"))) == 3


def test_the_index_file_is_the_noise_of_its_runs(swept: tuple[Path, list[Any], list[str]]) -> None:
    folder, outcomes, _ = swept
    assert outcomes[0]["result"]["mismatched"] == 0.2
    digest = outcomes[0]["result"]["spec"]["noise_digest"]
    assert outcomes[1]["result"]["spec"]["noise_digest"] == digest
    claimed = load_noise(folder / "runs" / "f30k" / "noise" / f"{digest[:12]}.npy").claimed
    np.testing.assert_array_equal(claimed, np.repeat(np.load(folder / "published.npy"), 5))


def test_a_second_call_keeps_everything(
    swept: tuple[Path, list[Any], list[str]],
    cli: Callable[..., Result],
    snapshot: Callable[[Path], dict[str, tuple[bytes, int]]],
) -> None:
    folder, outcomes, words = swept
    before = snapshot(folder)
    result = cli(*words, "--out", folder / "runs")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "[" not in result.stdout  # no line per run, only the table
    assert result.stdout.startswith("┏")
    assert result.stdout.count("already done") == 6
    again = cli(*words, "--out", folder / "runs", "--json")
    assert json.loads(again.stdout) == [{**outcome, "status": "kept"} for outcome in outcomes]
    assert snapshot(folder) == before


def test_the_same_bytes_from_another_process(swept: tuple[Path, list[Any], list[str]], tmp_path: Path) -> None:
    folder, _, _ = swept
    words = [sys.executable, "-c", "from ncbench.cli import main; main()", *COMMON, "--protocol", "shuffle-images"]
    done = subprocess.run([*words, "--out", str(tmp_path / "runs")], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith(f"ncbench report --runs {tmp_path / 'runs'}")
    made = sorted((tmp_path / "runs").glob("f30k/*/*/result.json"))
    assert [path.parent.parent.name for path in made] == ["l2rm", "triplet"]
    for path in made:
        for name in ("result.json", "model.safetensors", "ranks.npz", "spec.json"):
            ours = folder / "runs" / path.parent.relative_to(tmp_path / "runs") / name
            assert path.with_name(name).read_bytes() == ours.read_bytes(), name


def test_a_report_of_it(swept: tuple[Path, list[Any], list[str]], cli: Callable[..., Result], tmp_path: Path) -> None:
    folder, outcomes, _ = swept
    result = cli("report", "--runs", folder / "runs", "--out", tmp_path / "pages")
    assert result.exit_code == 0
    pages = tmp_path / "pages" / "f30k"
    assert {path.name for path in pages.iterdir()} == {"README.md", "published.md", "runs.csv", "figures"}
    files = {path.name for path in (pages / "figures").iterdir()}
    assert files >= {"rsum.svg", "rsum.png", "training-curves.svg", "training-curves.png"}
    assert sum("beliefs" in name for name in files) == 2 * 3  # of l2rm, for three protocols
    assert not any("retrieved" in name for name in files)  # there are no pictures
    page = (pages / "README.md").read_text()
    assert page.count("\n## ") == 6  # three tables, beliefs of l2rm, published results, how to read them
    for outcome in outcomes:
        assert f"{outcome['result']['metrics']['test']['rsum']:.1f}" in page
