"""`ncbench verify`: valid records pass, and every inconsistency is reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import Result
from made_records import DEFAULTS, made_result
from toy_methods import Quick

from ncbench import Rematches
from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import Beliefs, detect
from ncbench.evaluation.fitting import FittingRanks
from ncbench.evaluation.top_k import Retrieved
from ncbench.noise.drawing import draw
from ncbench.noise.storage import save_noise
from ncbench.records.arrays import (
    load_ranks,
    load_retrieved,
    save_beliefs,
    save_fitting,
    save_ranks,
    save_retrieved,
)
from ncbench.records.fitting import check_fitting_with_dataset
from ncbench.records.judgement import check_beliefs, check_with_dataset, judge
from ncbench.records.record import Record, noise_path
from ncbench.records.result import Result as RunResult
from ncbench.records.spec import RunSpec
from ncbench.records.store import Store
from ncbench.records.verification import verify_run
from ncbench.runtime.files import write_json


class Nearness:
    """Closeness in meaning of made-up numbers, in [0, 1]."""

    def closeness(self, split: str, captions: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Return one minus how far apart two numbers are, (n,)."""
        return 1 - np.abs(captions // 2 - images) / 24


Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def run(toy_run: Callable[..., Result], tmp_path: Path) -> Path:
    """Return the folder of a recorded run."""
    assert toy_run("--method", "quick", "--noise", 0.4, "--evaluations", 2).exit_code == 0
    (folder,) = (tmp_path / "runs/tiny/quick").iterdir()
    return folder


def change(path: Path, how: Change) -> None:
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def test_sound_records(run: Path, cli: Callable[..., Result], tmp_path: Path) -> None:
    for words, said in (((run,), "1 run checked"), ((tmp_path / "runs", run), "1 run checked")):
        result = cli("verify", *words)
        assert (result.exit_code, result.stdout, result.stderr) == (0, f"{said}, 0 with problems\n", "")


def of_earlier_harness(run: Path) -> Path:
    """Make a record one of the first harness, and move it where it belongs."""
    change(run / "spec.json", lambda spec: spec.pop("harness"))
    spec = Record(run).spec
    change(run / "result.json", lambda result: (result["spec"].pop("harness"), result.update(id=spec.id)))
    return run.rename(run.parent / spec.id)


def test_runs_of_an_earlier_harness_pass_and_are_marked(
    run: Path, toy_run: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path
) -> None:
    earlier = of_earlier_harness(run)
    assert toy_run("--method", "quick", "--noise", 0.4, "--evaluations", 2).exit_code == 0  # another run, not that one
    result = cli("verify", tmp_path / "runs")
    said = "2 runs checked, 0 with problems\n1 made by an earlier version of the harness; results differ since\n"
    assert (result.exit_code, result.stdout) == (0, said)
    assert json.loads(cli("verify", tmp_path / "runs", "--json").stdout)["earlier_harness"] == [str(earlier)]
    listed = cli("runs", "--runs", tmp_path / "runs").stdout
    assert [line.split("┃")[-2].strip() for line in listed.splitlines() if line.startswith("┃")] == ["harness"]
    assert sorted(line.split("│")[-2].strip() for line in listed.splitlines() if line.startswith("│")) == ["1", "2"]


@pytest.mark.parametrize(
    "words", [("--backbone", "sgraf"), ("--budget", "1s"), ("--budget", "2own-epochs"), ("--noise", 0)]
)
def test_sound_records_of_every_kind(
    words: tuple[object, ...], toy_run: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path
) -> None:
    assert toy_run("--method", "quick", "--noise", 0.2, *words).exit_code == 0
    result = cli("verify", tmp_path / "runs")
    assert (result.exit_code, result.stdout) == (0, "1 run checked, 0 with problems\n")


@pytest.mark.parametrize(
    ("file", "how", "said"),
    [
        ("result.json", lambda r: r.update(id="0" * 12), "the id is 000000000000, but that of its spec is "),
        ("result.json", lambda r: r["spec"].update(seed=7), "the folder of this spec would be tiny/quick/"),
        ("result.json", lambda r: r["spec"].update(seed=7), "spec.json differs from the spec in result.json"),
        ("result.json", lambda r: r["spec"].update(colour="red"), "unknown fields colour"),
        ("result.json", lambda r: r.update(schema=99), "schema 99 is not supported (expected 1)"),
        ("result.json", lambda r: r.update(status="failed"), "the status of a result must be 'done', found 'failed'"),
        ("result.json", lambda r: r["metrics"]["test"].update(rsum=599.0), "test rsum is 599.0, but its ranks give "),
        ("result.json", lambda r: r["metrics"]["test"]["t2i"].update(r5=99.0), "test t2i r5 is 99.0, but its ranks "),
        (
            "result.json",
            lambda r: r["metrics"]["test"].update(rsum=float("nan")),
            "cannot be read as a run record (",
        ),
        ("result.json", lambda r: r["metrics"].update(dev={}), "there are ranks for ['test'] and scores for ['dev', "),
        (
            "result.json",
            lambda r: r["metrics"]["test"]["i2t"].pop("r1"),
            "i2t: object missing required field `r1`",
        ),
        ("result.json", lambda r: r["work"].update(used=10**12), "exceeds the budget of "),
        ("result.json", lambda r: r["work"].update(budget=10**12), "the budget is 1000000000000 FLOPs, but its spec "),
        ("result.json", lambda r: r["work"].update(updates=0), "0 updates did work of "),
        ("result.json", lambda r: r["work"].update(updates=77), "history.jsonl ends with updates of "),
        ("result.json", lambda r: r["work"].pop("budget"), "work: object missing required field `budget`"),
        ("result.json", lambda r: r["selected"].update(dev_rsum=600.0), "vse was selected at dev rSum 600.0, but the "),
        (
            "measurements.json",
            lambda m: m["seconds"].update(training=-1.0),
            "training: expected `float` >= 0.0",
        ),
        ("measurements.json", lambda m: m.pop("seconds"), "object missing required field `seconds`"),
    ],
)
def test_unsound_records(file: str, how: Change, said: str, run: Path, cli: Callable[..., Result]) -> None:
    change(run / file, how)
    result = cli("verify", run)
    assert result.exit_code == 1
    assert said in result.stdout
    assert all(line.startswith(f"{run}: ") for line in result.stdout.splitlines()[:-1])
    assert result.stdout.endswith("1 run checked, 1 with problems\n")


@pytest.mark.parametrize("file", ["ranks.npz", "measurements.json", "spec.json", "history.jsonl"])
def test_files_that_are_missing(file: str, run: Path) -> None:
    (run / file).unlink()
    assert verify_run(run)


def test_noise_that_was_exchanged(run: Path) -> None:
    (kept,) = (run.parents[1] / "noise").glob("*.npy")
    claimed = np.load(kept)
    np.save(kept, claimed[::-1].copy())
    assert any("has digest" in problem for problem in verify_run(run))
    kept.unlink()
    assert verify_run(run)


def test_retrieval_that_was_improved(run: Path) -> None:
    found = load_retrieved(run / "retrieved.npz")
    found.t2i[3] = np.roll(found.t2i[3], 1)  # changes the first image
    found.i2t[5:7] = np.roll(found.i2t[5:7], 1, axis=1)
    save_retrieved(run / "retrieved.npz", found)
    problems = verify_run(run)
    assert problems
    assert all("retrieved.npz contradicts ranks.npz in " in problem for problem in problems)
    save_retrieved(run / "retrieved.npz", Retrieved(found.i2t[:5], found.t2i % 5, found.true % 5))
    assert any("retrieved.npz has 5 i2t queries, ranks.npz has " in problem for problem in verify_run(run))
    (run / "retrieved.npz").unlink()  # as in older records
    assert verify_run(run) == []


def test_scores_for_all_that_fits_are_computed_again(run: Path, cli: Callable[..., Result]) -> None:
    change(run / "result.json", lambda r: r["metrics"]["fitting"]["t2i"].update(map_at_r=99.0))
    change(run / "result.json", lambda r: r["metrics"]["fitting"]["i2t"].update(forgiven=None))
    change(run / "result.json", lambda r: r["metrics"]["fitting"].update(pairs=7))
    pairs = len(np.load(run / "fitting.npz")["captions"])
    first, second, third = verify_run(run)
    assert first == f"the result has 7 fitting pairs, fitting.npz {pairs}"
    assert second.startswith("fitting i2t forgiven is None, but fitting.npz gives ")
    assert third.startswith("fitting t2i map_at_r is 99.0, but fitting.npz gives ")
    change(run / "result.json", lambda r: r["metrics"]["fitting"]["t2i"].update(map_at_r=101.0))
    assert "metrics.fitting.t2i.map_at_r: expected `float` <= 100.0" in verify_run(run)[0]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("captions", 16, "fitting.npz has pairs beyond 8 images and 16 captions"),
        ("images", 8, "fitting.npz has pairs beyond 8 images and 16 captions"),
        ("i2t", 16, "fitting.npz has ranks beyond 16 captions and 8 images"),
        ("t2i", 8, "fitting.npz has ranks beyond 16 captions and 8 images"),
    ],
)
def test_ranks_of_fitting_pairs_that_cannot_be(name: str, value: int, said: str, run: Path) -> None:
    arrays = dict(np.load(run / "fitting.npz"))
    arrays[name][-1] = value
    np.savez(run / "fitting.npz", **arrays)
    assert said in verify_run(run)


def test_ranks_of_fitting_pairs_are_there_or_not(run: Path) -> None:
    kept = (run / "fitting.npz").read_bytes()
    (run / "fitting.npz").unlink()
    assert verify_run(run) == ["the result has scores for all that fits, but fitting.npz is missing"]
    (run / "origin.json").write_text('{"submission": "x", "digest": "y"}')  # submissions have no such ranks
    assert verify_run(run) == []
    change(run / "result.json", lambda r: r["metrics"].pop("fitting"))  # as in older records
    assert verify_run(run) == []
    (run / "fitting.npz").write_bytes(kept)
    assert verify_run(run) == ["there is fitting.npz, but the result has no scores for all that fits"]


def test_what_fits_is_compared_with_the_dataset(tiny: Dataset, run: Path) -> None:
    record = Record(run)
    assert verify_run(run, lambda _: tiny) == []
    assert list(check_fitting_with_dataset(record, replace(tiny, semantics=None))) == [
        "there is fitting.npz, but tiny does not say what fits"
    ]
    found = record.fitting
    assert found is not None
    fewer = FittingRanks(*(getattr(found, each)[:-2] for each in ("captions", "images", "i2t", "t2i")))
    save_fitting(run / "fitting.npz", fewer)
    assert list(check_fitting_with_dataset(Record(run), tiny)) == [
        f"fitting.npz differs from the {len(found.captions)} fitting pairs of tiny in 2 pairs"
    ]
    (run / "fitting.npz").unlink()
    assert list(check_fitting_with_dataset(Record(run), tiny)) == []


def test_queries_that_differ(run: Path) -> None:
    found = load_retrieved(run / "retrieved.npz")
    save_retrieved(run / "retrieved.npz", Retrieved(found.i2t[:5], found.t2i % 5, found.true % 5))
    assert "ranks.npz and retrieved.npz have different queries" in verify_run(run)


def test_ranks_that_were_improved(run: Path) -> None:
    ranks = dict(np.load(run / "ranks.npz"))
    ranks["i2t"][:] = 0
    np.savez(run / "ranks.npz", **ranks)
    assert any(problem.startswith("test i2t r1 is ") for problem in verify_run(run))


def test_a_budget_in_seconds_that_was_not_kept(toy_run: Callable[..., Result], tmp_path: Path) -> None:
    assert toy_run("--method", "quick", "--noise", 0.4, "--budget", "1s").exit_code == 0
    (folder,) = (tmp_path / "runs/tiny/quick").iterdir()
    change(folder / "measurements.json", lambda m: m["seconds"].update(training=3.0))
    assert verify_run(folder) == ["training took 3.0 s of a budget of 1 s"]


def test_as_json(run: Path, cli: Callable[..., Result], strict_json: Callable[[str], Any]) -> None:
    assert strict_json(cli("verify", run, "--json").stdout) == {
        "runs": 1,
        "problems": {},
        "earlier_harness": [],
        "self_reported": [],
        "unusually_slow": {},
    }
    (run / "ranks.npz").unlink()
    result = cli("verify", run, "--json")
    assert result.exit_code == 1
    (problems,) = strict_json(result.stdout)["problems"].values()
    assert len(problems) == 1


def test_nothing_to_verify(cli: Callable[..., Result], tmp_path: Path) -> None:
    result = cli("verify", tmp_path)
    message = f"Error: {tmp_path} is neither a finished run nor a folder of records with one.\n"
    assert (result.exit_code, result.stderr) == (2, message)


def test_the_folder_one_stands_in(run: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    result = cli("verify", ".")
    assert (result.exit_code, result.stdout) == (0, "1 run checked, 0 with problems\n")


def test_a_history_that_is_damaged(run: Path) -> None:
    (run / "history.jsonl").write_text("{")
    assert any("history.jsonl: cannot be read as a run record" in problem for problem in verify_run(run))


L2RM = ("--method", "l2rm", "--set", "l2rm.batch_size=8", "--set", "l2rm.queue=12", "--set", "l2rm.warmup=0.2")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda r: r["beliefs"]["detection"].update(auc=0.123), "detection auc is 0.123, but beliefs.npz gives "),
        (lambda r: r["beliefs"]["detection"].update(recall=0.123), "detection recall is 0.123, but beliefs.npz gives "),
        (
            lambda r: r["beliefs"]["detection"].update(calibration_error=0.777),
            "detection calibration_error is 0.777, but beliefs.npz gives ",
        ),
        (lambda r: r["beliefs"]["detection"].update(pairs=47), "detection pairs is 47, but beliefs.npz gives 48"),
        (lambda r: r["beliefs"]["detection"].update(auc=5.0), "beliefs.detection.auc: expected `float` <= 1"),
        (lambda r: r["beliefs"]["detection"].update(recall=-1.0), "beliefs.detection.recall: expected `float` >= 0"),
        (lambda r: r["metrics"]["test"]["i2t"].update(medr=0.0), "metrics.test.i2t.medr: expected `float` >= 1"),
        (lambda r: r["metrics"]["test"]["t2i"].update(r10=100.5), "metrics.test.t2i.r10: expected `float` <= 100"),
        (lambda r: r["metrics"]["test"].update(rsum=600.5), "metrics.test.rsum: expected `float` <= 600"),
        (lambda r: r["work"].update(updates=-3), "work.updates: expected `int` >= 0"),
        (lambda r: r["spec"].update(seed=-1), "spec.seed: expected `int` >= 0"),
        (lambda r: r["beliefs"].pop("detection"), "the result has no detection, but beliefs.npz says otherwise"),
        (lambda r: r.update(mismatched=0.123), "the result has 0.123 mismatched pairs, beliefs.npz 0."),
        (lambda r: r.update(told_clean=3), "beliefs.npz has 0 given clean pairs, the result 3"),
        (lambda r: r.update(told_truth=True), "l2rm saw the ground truth, but the method says otherwise"),
    ],
)
def test_beliefs_that_were_improved(how: Change, said: str, toy_run: Callable[..., Result], tmp_path: Path) -> None:
    assert toy_run(*L2RM, "--noise", 0.4, "--budget", 2).exit_code == 0
    (folder,) = (tmp_path / "runs/tiny/l2rm").iterdir()
    assert verify_run(folder) == []
    change(folder / "result.json", how)
    (problem,) = verify_run(folder)
    assert said in problem


def test_a_reference_that_claims_to_be_a_contestant(toy_run: Callable[..., Result], tmp_path: Path) -> None:
    assert toy_run("--method", "oracle", "--set", "oracle.batch_size=8", "--noise", 0.4).exit_code == 0
    (folder,) = (tmp_path / "runs/tiny/oracle").iterdir()
    assert verify_run(folder) == []
    change(folder / "result.json", lambda r: r.update(told_truth=False))
    (problem,) = verify_run(folder)
    assert "oracle did not see the ground truth, but the method says otherwise" in problem


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda lines: lines[0].update(updates=lines[-1]["updates"] + 1), "updates of vse falls from "),
        (lambda lines: lines[0].update(share=1.0), "share of vse falls from 1.0 to "),
        (lambda lines: lines[0].update(seconds=1e6), "seconds of vse falls from 1000000.0 to "),
        (lambda lines: lines[0].update(work=10**18), "work of vse falls from "),
        (lambda lines: lines.insert(0, {**lines[0], "share": 0.0}), "has 3 evaluations of vse, its spec allows 2"),
        (
            lambda lines: lines[0]["dev"].update(rsum=1.5),
            "history.jsonl has a dev rSum of 1.5, but its recalls sum to ",
        ),
        (lambda lines: lines[0].update(share=1.5), "share: expected `float` <= 1"),
        (lambda lines: lines[0].update(seconds=-1.0), "seconds: expected `float` >= 0"),
    ],
)
def test_curves_that_were_changed(how: Callable[[list[Any]], object], said: str, run: Path) -> None:
    lines = lines_of(run)
    assert len(lines) == 2
    how(lines)
    (run / "history.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert any(said in problem for problem in verify_run(run)), verify_run(run)


def test_the_share_at_which_it_was_selected(run: Path) -> None:
    change(run / "result.json", lambda result: result["selected"].update(share=0.123))
    (problem,) = verify_run(run)
    assert problem.startswith("vse was selected at 0.123 of the budget, the best in history.jsonl is at ")


def test_ranks_beyond_the_candidates(run: Path) -> None:
    ranks = load_ranks(run / "ranks.npz")["test"]
    ranks.i2t[0][0] = 16
    save_ranks(run / "ranks.npz", ranks)
    assert "test i2t has a rank of 16 among 16 captions" in verify_run(run)


def test_sizes_of_the_network(run: Path) -> None:
    change(run / "spec.json", lambda spec: spec["sizes"].update(word=-8))
    change(run / "result.json", lambda result: result["spec"]["sizes"].update(word=-8))
    assert "the size word is -8" in verify_run(run)


def rewrite(path: Path, **changes: Any) -> None:
    """Write the arrays of an archive again, some changed."""
    arrays = {**np.load(path), **changes}
    np.savez_compressed(path, **arrays)


def test_the_ground_truth_comes_from_the_dataset(
    toy_run: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path
) -> None:
    """Beliefs and result were both changed, so that they agree with each other, but not with noise and dataset."""
    assert toy_run(*L2RM, "--noise", 0.4, "--budget", 2).exit_code == 0
    (folder,) = (tmp_path / "runs/tiny/l2rm").iterdir()
    assert cli("verify", folder).exit_code == 0
    beliefs = np.load(folder / "beliefs.npz")
    p_clean, clean = beliefs["p_clean"], np.roll(beliefs["clean"], 1)
    assert not np.array_equal(clean, beliefs["clean"])
    rewrite(folder / "beliefs.npz", clean=clean)
    change(folder / "result.json", lambda r: r.update(beliefs={"detection": asdict(detect(p_clean, clean))}))
    assert verify_run(folder) == []
    result = cli("verify", folder)
    wrong = np.count_nonzero(clean != beliefs["clean"])
    assert result.exit_code == 1
    assert f"beliefs.npz is wrong about which pairs are clean in {wrong} of 48 pairs" in result.stdout


def test_rematches_are_judged_again(tiny: Dataset, tmp_path: Path) -> None:
    dataset = replace(tiny, semantics=Nearness())
    spec = RunSpec.from_dict({**DEFAULTS, "schema": 1, "dataset": "tiny"})
    noise = draw(tiny, "shuffle-images", 0.4, 0)
    spec = replace(spec, noise_digest=noise.digest)
    folder = Store(tmp_path).start(spec)
    save_noise(noise, noise_path(tmp_path, spec))
    rng = np.random.default_rng(0)
    pairs = len(noise.claimed)
    rematches = Rematches(np.arange(pairs), rng.integers(0, 24, pairs), rng.random(pairs))
    clean = noise.clean(tiny.splits["train"].true)
    beliefs = Beliefs(rng.random(pairs), rng.random(pairs), rematches, np.array([0, 5]), None, clean, None)
    save_beliefs(folder / "beliefs.npz", beliefs)
    judgement = judge(beliefs, noise, dataset)
    assert judgement.rematches is not None
    assert judgement.soft_labels is not None
    right = msgspec.structs.replace(
        made_result(spec), beliefs=judgement, clean_pairs_given=2, mismatched=float(np.mean(~clean))
    )

    def problems(result: RunResult) -> list[str]:
        write_json(folder / "result.json", result.to_dict())
        record = Record(folder)
        return [*check_beliefs(record), *check_with_dataset(record, dataset)]

    assert problems(right) == []
    closer, follows = judgement.rematches.closer, judgement.soft_labels.closeness_correlation
    for change_of, said in (
        ({"rematches": replace(judgement.rematches, closer=0.999)}, f"closer is 0.999, but the dataset gives {closer}"),
        ({"rematches": replace(judgement.rematches, count=7)}, "the result has 7 rematches, beliefs.npz 48"),
        ({"rematches": replace(judgement.rematches, chance=0.9)}, "rematches chance is 0.9, but the dataset gives "),
        (
            {"soft_labels": replace(judgement.soft_labels, closeness_correlation=0.9)},
            f"closeness_correlation is 0.9, but the dataset gives {follows}",
        ),
    ):
        changed = msgspec.structs.replace(judgement, **change_of)
        assert any(said in text for text in problems(msgspec.structs.replace(right, beliefs=changed)))


def test_beliefs_in_single_precision(toy_run: Callable[..., Result], tmp_path: Path) -> None:
    """As in older records: numbers near the edge of a bin of the calibration error may move into the next."""
    assert toy_run(*L2RM, "--noise", 0.4, "--budget", 2).exit_code == 0
    (folder,) = (tmp_path / "runs/tiny/l2rm").iterdir()
    arrays = dict(np.load(folder / "beliefs.npz"))
    p_clean = np.linspace(0, 1, 48).round(1) + 1 / 15 - 0.1
    p_clean = np.clip(p_clean, 0, 1) - 1e-12 * (p_clean > 0.05)
    change(
        folder / "result.json",
        lambda r: r["beliefs"].update(detection=asdict(detect(np.clip(p_clean, 0, 1), arrays["clean"]))),
    )
    for dtype in (np.float64, np.float32):
        rewrite(folder / "beliefs.npz", p_clean=np.clip(p_clean, 0, 1).astype(dtype))
        assert verify_run(folder) == []
    change(folder / "result.json", lambda r: r["beliefs"]["detection"].update(auc=0.999))
    assert any("detection auc is 0.999" in problem for problem in verify_run(folder))


def test_one_bad_record_does_not_stop_the_others(
    toy_run: Callable[..., Result], cli: Callable[..., Result], strict_json: Callable[[str], Any], tmp_path: Path
) -> None:
    runs, pages = tmp_path / "runs", tmp_path / "pages"
    assert toy_run("--method", "quick", "--noise", 0.4, "--seed", "0,1,2").exit_code == 0
    damaged, tampered, sound = sorted((runs / "tiny/quick").iterdir())
    (damaged / "result.json").write_text("[" * 100_000)
    change(tampered / "result.json", lambda result: result["metrics"]["test"].update(rsum=599.0))
    verified = cli("verify", runs)
    assert verified.exit_code == 1
    assert verified.stdout.endswith("3 runs checked, 2 with problems\n")
    listed = cli("runs", "--runs", runs)
    assert listed.exit_code == 1
    assert sound.name in listed.stdout
    assert damaged.name not in listed.stdout
    assert "fails verification" in listed.stdout
    for words in (("report", "--runs", runs, "--out", pages, "--html"), ("runs", "--runs", runs, "--json")):
        result = cli(*words)
        assert result.exit_code == 1
        first, second, last = result.stderr.splitlines()[-3:]
        assert first.startswith(f"{damaged}/result.json: cannot be read as a run record (its lists and objects are ")
        assert first.endswith("(left out)")
        assert second.startswith(f"{tampered}: test rsum is 599.0, but its ranks give ")
        assert second.endswith("(fails verification)")
        assert last == "2 records have problems"
    page, html = (pages / "tiny/README.md").read_text(), (pages / "index.html").read_text()
    for text in (page, html):
        assert "Records with problems" in text
        assert "quick (fails verification)" in text
        assert "test rsum is 599.0" in text
        assert damaged.name in text
    (table,) = strict_json(cli("report", "--runs", runs, "--out", pages, "--json").stdout)["comparisons"]
    rows = {row["variant"]: row for row in table["rows"]}
    assert (rows["quick"]["place"], rows["quick (fails verification)"]["place"]) == (1.0, None)
    assert [row["variant"] for row in table["rows"]] == ["quick", "quick (fails verification)"]
    printed = cli("report", "--runs", runs, "--format", "csv")
    assert printed.exit_code == 1
    assert "quick (fails verification)" in printed.stdout
    for other in (damaged, tampered):
        shutil.rmtree(other)
    assert cli("report", "--runs", runs, "--out", pages).exit_code == 0
    assert "Records with problems" not in (pages / "tiny/README.md").read_text()


def test_runs_that_take_unusually_long_are_warned_of(
    toy_run: Callable[..., Result], cli: Callable[..., Result], register: Callable[..., None], tmp_path: Path
) -> None:
    register("ncbench.methods", "other", type("Other", (Quick,), {"name": "other"}))
    assert toy_run("--method", "quick,other", "--noise", 0.4).exit_code == 0
    slow, fast = (next((tmp_path / "runs/tiny" / name).iterdir()) for name in ("quick", "other"))
    for folder, seconds in ((slow, 90.0), (fast, 1.0)):
        change(folder / "measurements.json", lambda found, s=seconds: found["seconds"].update(training=s))
    result = cli("verify", tmp_path / "runs")
    assert result.exit_code == 0
    assert f"Warning: {slow}: takes " in result.stdout
    assert f"Warning: {fast}" not in result.stdout
    assert "2 runs checked, 0 with problems" in result.stdout
    assert list(json.loads(cli("verify", tmp_path / "runs", "--json").stdout)["unusually_slow"]) == [str(slow)]
    assert "Warning" not in cli("verify", slow).stdout
