"""`ncbench eval`: published scores of a released checkpoint, runs, folds, and invalid input."""

from __future__ import annotations

import io
import json
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from places import FIXTURES
from rich.console import Console

from ncbench.data.dataset import Dataset
from ncbench.evaluation.retrieval import evaluate

ROOT = FIXTURES / "published_sgr"
OFFICIAL = ROOT / "official_sgr.pth.tar"
F30K = ("--dataset", "f30k", "--data-root", ROOT, "--device", "cpu")
TRUE = np.arange(300) // 5

# Of scores in bf16, which have a deviation of 0.22: errors of 0.0018 on average, and of at most 0.0074 in 99 of 100,
# were found. Of recalls in percent: one of 60 images, which is 1.7, was found.
MEAN_BOUND = 0.004
MOST_BOUND = 0.015
RECALL_BOUND = 3.4

Call = Callable[..., Result]


@pytest.fixture(scope="module")
def golden() -> np.ndarray:
    similarities: np.ndarray = np.load(ROOT / "official_sgr_sims.npy")
    return similarities


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A checkpoint of another network, in the layout of the SGRAF family."""
    net = torch.load(OFFICIAL, weights_only=False)["net"]
    parts = [
        OrderedDict(
            (name.removeprefix(start), weight * 1.05 if weight.is_floating_point() else weight)
            for name, weight in net.items()
            if name.startswith(start)
        )
        for start in ("img_enc.", "txt_enc.", "sim_enc.")
    ]
    torch.save({"epoch": 0, "model": parts}, tmp_path / "other.pth")
    return tmp_path / "other.pth"


def refused(result: Result, message: str) -> None:
    """Assert that the only output is one line on standard error that contains `message`."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_the_files_of_the_split_are_enough(cli: Call, tmp_path: Path) -> None:
    (tmp_path / "f30k_precomp").mkdir()
    for name in ("test_ims.npy", "test_caps.txt"):
        shutil.copyfile(ROOT / "f30k_precomp" / name, tmp_path / "f30k_precomp" / name)
    shutil.copytree(ROOT / "vocab", tmp_path / "vocab")
    words = ("eval", "--checkpoint", OFFICIAL, "--dataset", "f30k", "--device", "cpu", "--json", "--data-root")
    alone, whole = cli(*words, tmp_path), cli(*words, ROOT)
    assert (alone.exit_code, alone.stderr) == (0, "")
    assert json.loads(alone.stdout) == json.loads(whole.stdout)
    refused(cli(*words, tmp_path, "--split", "dev"), "lacks dev_ims.npy, dev_caps.txt; dataset 'f30k' needs")


def test_the_published_numbers(cli: Call, golden: np.ndarray, tmp_path: Path) -> None:
    out = tmp_path / "similarities.npy"
    result = cli("eval", "--checkpoint", OFFICIAL, *F30K, "--split", "test", "--similarities", out, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    published = json.loads((ROOT / "official_sgr.json").read_text())
    keys = ("r1", "r5", "r10", "medr", "meanr")
    assert json.loads(result.stdout) == {
        "i2t": dict(zip(keys, published["i2t"], strict=True)),
        "t2i": dict(zip(keys, published["t2i"], strict=True)),
        "rsum": published["rsum"],
    }
    found = np.load(out)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, golden, rtol=0, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["similarities.npy"]


def test_a_large_split_has_the_same_numbers(cli: Call, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("eval", "--checkpoint", OFFICIAL, "--checkpoint", other, *F30K, "--average", "evidence", "--json")
    expected = cli(*words)
    monkeypatch.setattr("ncbench.evaluation.scored_blocks.MAX_MATRIX_BYTES", 0)
    monkeypatch.setattr("ncbench.evaluation.similarity.similarity_matrix", None)
    found = cli(*words)
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout == expected.stdout


def test_the_table(cli: Call, other: Path) -> None:
    result = cli("eval", "--checkpoint", OFFICIAL, "--checkpoint", other, *F30K)
    assert (result.exit_code, result.stderr) == (0, "")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "│" in line]
    # Paths may be wrapped, so only the last columns are compared.
    assert [row[1:] for row in cells if row[1] == "sgr"] == [["sgr", "3"], ["sgr", "0"]]
    assert [row[0] for row in cells if row[0] in ("i2t", "t2i")] == ["i2t", "t2i"]
    assert "f30k test: 60 images, 300 captions" in result.stdout
    assert "unfolded" not in result.stdout
    alone = cli("eval", "--checkpoint", OFFICIAL, *F30K)
    lines = alone.stdout.splitlines()
    assert [cell.strip() for cell in lines[-4].split("│")[1:-1]] == ["i2t", "31.7", "71.7", "76.7", "2.0", "7.0"]
    assert [cell.strip() for cell in lines[-3].split("│")[1:-1]] == ["t2i", "18.7", "45.0", "58.3", "7.0", "14.0"]
    assert lines[-1] == "rSum 302.0"


@pytest.mark.parametrize("average", ["scores", "evidence"])
def test_averages_over_all_networks(average: str, cli: Call, other: Path, golden: np.ndarray, tmp_path: Path) -> None:
    cli("eval", "--checkpoint", other, *F30K, "--similarities", tmp_path / "alone.npy")
    alone = np.load(tmp_path / "alone.npy").astype(np.float64)
    both = tmp_path / "both.npy"
    words = ("--checkpoint", OFFICIAL, "--checkpoint", other, "--average", average, "--similarities", both, "--json")
    result = cli("eval", *F30K, *words)
    assert result.exit_code == 0, result.output
    each = [golden.astype(np.float64), alone]
    if average == "evidence":
        each = [np.exp(np.tanh(np.log(scores / (1 - scores))) / 0.1) for scores in each]
    np.testing.assert_allclose(np.load(both), np.mean(each, 0), rtol=1e-3)
    assert json.loads(result.stdout) == evaluate(np.load(both), TRUE).to_dict()


def test_a_terminal_shows_what_is_scored(cli: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    terminal = Console(file=written, force_terminal=True, width=200)
    monkeypatch.setattr("ncbench.cli.eval.console", lambda to_stderr: terminal)
    assert cli("eval", "--checkpoint", OFFICIAL, *F30K).exit_code == 0
    assert f"network 1 of 1: {OFFICIAL}" in " ".join(written.getvalue().split())
    written.truncate(0)
    assert cli("eval", "--checkpoint", OFFICIAL, *F30K, "--json").exit_code == 0
    assert written.getvalue() == ""


@pytest.mark.parametrize(("split", "shape"), [("train", (2, 10)), ("dev", (2, 10))])
def test_other_splits(split: str, shape: tuple[int, int], cli: Call, tmp_path: Path) -> None:
    out = tmp_path / "similarities.npy"
    result = cli("eval", "--checkpoint", OFFICIAL, *F30K, "--split", split, "--similarities", out)
    assert result.exit_code == 0
    assert np.load(out).shape == shape
    assert f"f30k {split}: 2 images, 10 captions" in result.stdout


def test_a_run_has_the_scores_of_its_record(toy_run: Call, cli: Call, tmp_path: Path) -> None:
    done = toy_run("--method", "quick", "--noise", 0.2, "--json")
    ((outcome),) = json.loads(done.stdout)
    result = cli("eval", "--checkpoint", outcome["folder"], "--dataset", "tiny", "--device", "cpu", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == outcome["result"]["metrics"]["test"]
    words = ("--dataset", "tiny", "--average", "evidence")
    refused(
        cli("eval", "--checkpoint", outcome["folder"], *words),
        f"--average evidence requires sigmoid scores; vse in {outcome['folder']}/model.safetensors has none.",
    )
    words = ("--dataset", "tiny", "--precision", "bf16")
    refused(
        cli("eval", "--checkpoint", outcome["folder"], *words),
        "--precision bf16 is not supported by vse.",
    )


def test_a_run_with_a_head_of_its_own(toy_run: Call, cli: Call, tmp_path: Path) -> None:
    small = ("batch_size=8", "warmup_batch=8", "meta_batch=8", "hidden=4")
    words = [word for setting in small for word in ("--set", f"mscn.{setting}")]
    done = toy_run("--method", "mscn", "--noise", 0.2, "--budget", 2, *words, "--json")
    ((outcome),) = json.loads(done.stdout)
    assert outcome["result"]["told_clean"] == 8
    words = ("eval", "--checkpoint", outcome["folder"], "--dataset", "tiny", "--device", "cpu", "--json")
    assert json.loads(cli(*words).stdout) == outcome["result"]["metrics"]["test"]
    assert cli(*words, "--average", "evidence").exit_code == 0
    assert cli("report", "--runs", tmp_path / "runs", "--out", tmp_path / "out").exit_code == 0
    assert "| mscn (given 8 clean pairs) |" in (tmp_path / "out" / "tiny" / "README.md").read_text()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_run_of_an_ensemble_has_the_scores_of_its_record(precision: str, toy_run: Call, cli: Call) -> None:
    words = ("--method", "quick", "--backbone", "sgraf", "--budget", 1, "--noise", 0.2, "--precision", precision)
    done = toy_run(*words, "--json")
    assert done.exit_code == 0, done.stderr
    ((outcome),) = json.loads(done.stdout)
    assert outcome["result"]["spec"]["precision"] == precision
    words = ("eval", "--checkpoint", outcome["folder"], "--dataset", "tiny", "--device", "cpu")
    result = cli(*words, "--precision", precision, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == outcome["result"]["metrics"]["test"]
    table = cli(*words, "--precision", precision).stdout
    assert "sgr, saf" in table
    assert f"rSum {outcome['result']['metrics']['test']['rsum']:.1f}" in table


def test_bf16_gives_scores_close_to_single_precision(cli: Call, golden: np.ndarray, tmp_path: Path) -> None:
    words = ("eval", "--checkpoint", OFFICIAL, *F30K, "--json", "--similarities")
    exact, tf32, low = (
        json.loads(cli(*words, tmp_path / f"{precision}.npy", "--precision", precision).stdout)
        for precision in ("float32", "tf32", "bf16")
    )
    assert tf32 == exact  # on a CPU
    error = np.abs(np.load(tmp_path / "bf16.npy") - golden)
    assert error.max() > 1e-5
    assert error.mean() < MEAN_BOUND
    assert np.quantile(error, 0.99) < MOST_BOUND
    assert len(np.unique(np.load(tmp_path / "bf16.npy"))) > 0.9 * len(np.unique(golden))
    for side in ("i2t", "t2i"):
        for key in ("r1", "r5", "r10"):
            assert low[side][key] == pytest.approx(exact[side][key], abs=RECALL_BOUND)


def test_folds(
    toy_run: Call,
    cli: Call,
    register: Callable[[str, str, object], None],
    make_dataset: Callable[..., Dataset],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (outcome,) = json.loads(toy_run("--method", "quick", "--noise", 0.2, "--json").stdout)
    folded = make_dataset(folds=4)
    monkeypatch.setattr("ncbench.data.registry.load_dataset", lambda name, root: folded)
    out = tmp_path / "similarities.npy"
    words = ("eval", "--checkpoint", outcome["folder"], "--dataset", "tiny", "--device", "cpu")
    result = cli(*words, "--json", "--similarities", out)
    matrix, true = np.load(out), folded.splits["test"].true
    expected: dict[str, Any] = {**evaluate(matrix, true, 4).to_dict(), "unfolded": evaluate(matrix, true).to_dict()}
    assert json.loads(result.stdout) == expected
    assert expected["rsum"] > expected["unfolded"]["rsum"]
    table = cli(*words).stdout
    first, second = table.index("tiny test: 8 images, 16 captions, mean of 4 folds"), table.index("captions, unfolded")
    assert first < table.index(f"rSum {expected['rsum']:.1f}\n") < second
    assert second < table.index(f"rSum {expected['unfolded']['rsum']:.1f}\n")
    dev = json.loads(cli(*words, "--split", "dev", "--json").stdout)
    assert sorted(dev) == ["i2t", "rsum", "t2i"]


def test_similarities_that_are_not_finite(cli: Call, tmp_path: Path) -> None:
    content = torch.load(OFFICIAL, weights_only=False)
    content["net"]["img_enc.fc.weight"][:] = 3e38
    torch.save(content, tmp_path / "huge.pth")
    out = tmp_path / "similarities.npy"
    result = cli("eval", "--checkpoint", OFFICIAL, "--checkpoint", tmp_path / "huge.pth", *F30K, "--similarities", out)
    refused(result, "huge.pth: produces NaN or infinite similarities;")
    assert not out.exists()


def test_bad_checkpoints_end_before_the_dataset_is_read(
    cli: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the dataset was read")

    monkeypatch.setattr("ncbench.data.registry.load_dataset", never)
    (tmp_path / "text.pth").write_text("hello")
    result = cli("eval", "--checkpoint", OFFICIAL, "--checkpoint", tmp_path / "text.pth", *F30K)
    refused(result, f"{tmp_path / 'text.pth'}: was not written by torch.save (begins with b'hello')")
    refused(
        cli("eval", "--checkpoint", tmp_path, *F30K), f"{tmp_path}: spec.json and model.safetensors not found; give"
    )


def test_a_checkpoint_of_another_vocabulary_ends_before_scoring(
    cli: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("captions were scored")

    monkeypatch.setattr("ncbench.evaluation.similarity.similarity_matrix", never)
    content = torch.load(OFFICIAL, weights_only=False)
    content["net"]["txt_enc.embed.weight"] = torch.ones(90, 32)
    torch.save(content, tmp_path / "coco.pth")
    result = cli("eval", "--checkpoint", OFFICIAL, "--checkpoint", tmp_path / "coco.pth", *F30K)
    refused(result, f"{tmp_path / 'coco.pth'}: has a vocabulary of 90 words, expected 66 (or 67 with <mask>)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--checkpoint", "nosuch.pth", *F30K), "'nosuch.pth' does not exist."),
        (F30K, "Missing option '--checkpoint'."),
        (("--checkpoint", OFFICIAL), "Missing option '--dataset'."),
        (("--checkpoint", OFFICIAL, "--dataset", "f3k"), "unknown dataset 'f3k'. Did you mean 'f30k'?"),
        (("--checkpoint", OFFICIAL, "--dataset", "f30k"), "dataset 'f30k' needs --data-root DIR"),
        (("--checkpoint", OFFICIAL, *F30K, "--split", "tset"), "'tset' is not one of 'train', 'dev', 'test'."),
        (
            ("--checkpoint", OFFICIAL, *F30K, "--precision", "bf17"),
            "'bf17' is not one of 'float32', 'tf32', 'bf16'.",
        ),
        (("--checkpoint", OFFICIAL, *F30K, "--average", "x"), "'x' is not one of 'scores', 'evidence'."),
        (("--checkpoint", OFFICIAL, *F30K, "--device", "tpu"), "'tpu' is not one of 'auto', 'cpu', 'cuda', 'mps'."),
        (
            ("--checkpoint", OFFICIAL, *F30K, "--similarities", OFFICIAL),
            f"--similarities {OFFICIAL}: already exists; choose another file or delete it.",
        ),
        (
            ("--checkpoint", OFFICIAL, *F30K, "--similarities", "nosuch/out.npy"),
            "--similarities nosuch/out.npy: folder nosuch does not exist.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused(words: tuple[object, ...], message: str, cli: Call) -> None:
    before = OFFICIAL.read_bytes()
    refused(cli("eval", *words), message)
    assert OFFICIAL.read_bytes() == before


def test_help_states_defaults(cli: Call) -> None:
    text = " ".join(cli("eval", "--help").stdout.split())
    for option, default in (
        ("--split", "test"),
        ("--average", "scores"),
        ("--device", "auto"),
        ("--precision", "float32"),
    ):
        about = text.partition(f" {option} ")[2].partition(" --")[0]
        assert f"[default: {default}]" in about
