"""Invalid input: exit code 2, one line on standard error with the value and what is expected, and no files written."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from places import FIXTURES

ROOT = FIXTURES / "f30k"
N_IMAGES = 40


def judge(result: Result, *parts: str) -> None:
    """Assert that the only output is one line on standard error that contains `parts`."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    # Messages that are not click's end with a period or question mark.
    assert result.stderr.endswith((".\n", "?\n", "?)\n", "unexpected extra argument (extra)\n"))
    assert result.stderr.count("\n") == 1, result.stderr
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr


NAMES = [
    ("--method nosuch", ("unknown method 'nosuch'.", "Known: ", "l2rm", "triplet")),
    ("--method Triplet", ("unknown method 'Triplet'.", "Did you mean 'triplet'?")),
    ("--method triplet,,l2rm", ("--method", "'triplet,,l2rm' has an empty item; expected A,B,C.")),
    ("", ("Missing option '--method'",)),
    ("--method triplet --dataset f30", ("unknown dataset 'f30'. Did you mean 'f30k'?", "scenes-large")),
    ("--method triplet --backbone sgx", ("unknown backbone 'sgx'. Did you mean 'sgr'?", "Known: saf, scan, ")),
    (
        "--method triplet --protocol shuffle-image",
        ("unknown noise protocol 'shuffle-image'. Did you mean 'shuffle-images'", "file:PATH", "shuffle-captions"),
    ),
    ("--method triplet --protocol file", ("noise protocol 'file' needs an index file; use file:PATH",)),
    ("--method triplet --protocol shuffle-images:x", ("'shuffle-images:x'", "use shuffle-images, or file:PATH")),
    ("--method triplet --nosie 0.2", ("No such option '--nosie'", "--noise")),
    (
        "--method triplet extra",
        ("unexpected extra argument (extra). Separate the items of a list by commas: --method A,",),
    ),
    ("--method triplet --precision bf17", ("--precision", "'bf17' is not one of 'float32', 'tf32', 'bf16'.")),
    *(
        (
            f"--method triplet --backbone {given} --precision bf16",
            (f"--precision bf16 is not supported by {name}", "one of saf, sgr, sgraf"),
        )
        for given, name in [("vse", "vse"), ("sgr,vse", "vse"), ("scan", "scan-t2i-lse")]
    ),
    ("--method triplet --device tpu", ("--device", "'tpu' is not one of 'auto', 'cpu', 'cuda', 'mps'.")),
]

NUMBERS = [
    *(
        (f"--method triplet --noise {text}", ("--noise", f"'{value}' is not a noise ratio; it must be at least 0"))
        for text, value in [
            ("1", "1"),
            ("-0.1", "-0.1"),
            ("nan", "nan"),
            ("0.2,inf", "inf"),
            ("40%", "40%"),
            ("'0.2;0.4'", "0.2;0.4"),
            ("'0.2 0.4'", "0.2 0.4"),
        ]
    ),
    ("--method triplet --noise 0.2,,0.4", ("--noise", "'0.2,,0.4' has an empty item; expected A,B,C.")),
    ("--method triplet --noise ''", ("--noise", "'' has an empty item; expected A,B,C.")),
    *(
        (f"--method triplet --budget {text}", ("--budget", f"'{text}' is not a valid budget. Use 5 ("))
        for text in ("-1", "x", "nan", "inf", "5x", "2.5.1", "5days")
    ),
    *(
        (f"--method triplet --budget {text}", ("--budget", f"a budget must be positive, found {found}."))
        for text, found in (("0", "0"), ("0s", "0"), ("1e400", "inf"))
    ),
    ("--method triplet --budget 1.5own-epochs", ("--budget", "own-epochs must be an integer, found 1.5.")),
    ("--method triplet --max-memory x", ("--max-memory", "'x' is not a valid amount of memory. Use 500MiB, 8GiB")),
    ("--method triplet --budget paper", ("no published schedule is known for triplet on f30k.",)),
    ("--method triplet --seed -1", ("--seed", "-1 is not in the range x>=0.")),
    ("--method triplet --seed x", ("--seed", "'x' is not a")),
    ("--method triplet --evaluations 0", ("--evaluations", "0 is not in the range 1<=x<=1000.")),
    ("--method triplet --evaluations x", ("--evaluations", "'x' is not a")),
    ("--method triplet --jobs 0", ("--jobs", "0 is not in the range x>=1.")),
    ("--method triplet --jobs x", ("--jobs", "'x' is not a")),
]

FORM = "is not of the form method.key=value, for example l2rm.reg=0.05."
SETTINGS = [
    *((f"--method triplet --set {text}", (f"--set '{text}' {FORM}",)) for text in ("triplet.lr", ".lr=1", "x")),
    ("--method triplet --set lr=1", ("--set 'lr=1' is not of the form method.key=value, did you mean triplet.lr=1?",)),
    ("--method triplet --set triplet.lr=", (f"--set 'triplet.lr=' {FORM}",)),
    (
        "--method triplet --set triplet.rl=1",
        ("unknown setting of triplet 'rl'.", "batch_size, clip, decay_every, lr, margin, warmup."),
    ),
    ("--method triplet --set triplet.lr=fast", ("--set triplet.lr=fast: must be of type float.",)),
    ("--method triplet --set triplet.batch_size=1.5", ("--set triplet.batch_size=1.5: must be of type int.",)),
    ("--method triplet --set triplet.lr=nan", ("--set triplet.lr=nan: must be",)),
    ("--method triplet --set triplet.lr=inf", ("--set triplet.lr=inf: must be",)),
    (
        "--method triplet --set l2rm.reg=1",
        ("unknown --set target in this sweep 'l2rm'.", "Known: backbone, triplet."),
    ),
    ("--method l2rm --set l2rm.cost=free", ("--set l2rm.cost=free: must be one of learned, complement.",)),
    (
        "--method l2rm --set l2rm.solver=x",
        ("--set l2rm.solver=x: must be one of sinkhorn, exact, published.",),
    ),
    ("--method l2rm --set l2rm.given=some", ("--set l2rm.given=some: must be one of forbidden, allowed.",)),
    ("--method l2rm --set l2rm.mass=1.5", ("settings of l2rm: mass must be at most 1, found 1.5.",)),
    (
        "--method l2rm --set l2rm.loss=js",
        ("--set l2rm.loss=js: must be one of symmetric_kl, kl, jensen_shannon, arithmetic_geometric, soft_info_nce.",),
    ),
    (
        "--method l2rm --variant loss=kl",
        (
            "--variant 'loss=kl' is not of the form",
            "did you mean l2rm.loss=kl?",
        ),
    ),
    ("--method l2rm --variant l2rm.loss=js", ("--variant l2rm.loss=js: must be one of symmetric_kl, kl,",)),
    ("--method triplet --set backbone.imbed=1", ("unknown setting of backbone 'imbed'. Did you mean 'embed'?",)),
    ("--method triplet --set backbone.embed=0", ("--set backbone.embed=0: must be above 0.",)),
    ("--method triplet --set backbone.dropout=1", ("--set backbone.dropout=1.0: must be at least 0 and below 1.",)),
    ("--method triplet --set 'triplet.lr=a\nb'", ("--set triplet.lr=", "must be of type float.")),
]


@pytest.mark.parametrize(("words", "parts"), NAMES + NUMBERS + SETTINGS)
def test_run_refuses(words: str, parts: tuple[str, ...], cli: Callable[..., Result], tmp_path: Path) -> None:
    result = cli("run", "--dataset", "f30k", "--data-root", ROOT, "--out", tmp_path / "runs", *shlex.split(words))
    judge(result, *parts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "override", ["triplet.batch_size=0", "triplet.batch_size=-4", "triplet.lr=-1", "triplet.decay_every=0"]
)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(
    override: str, cli: Callable[..., Result], tmp_path: Path
) -> None:
    words = ("--dataset", "f30k", "--data-root", ROOT, "--noise", 0.2, "--budget", 0.1, "--backbone", "vse")
    sizes = ("--set", "backbone.embed=8", "--set", "backbone.word=4")
    result = cli("run", "--method", "triplet", *words, *sizes, "--out", tmp_path / "runs", "--set", override)
    key, _, value = override.removeprefix("triplet.").partition("=")
    judge(result, "triplet", key, value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("root", "parts"),
    [
        (None, ("dataset 'f30k' needs --data-root DIR", "f30k_precomp/{train,dev,test}_ims.npy", "vocab.json")),
        ("missing", ("missing/f30k_precomp is not a folder", "f30k_precomp/{train,dev,test}_caps.txt")),
        ("empty", ("f30k_precomp lacks train_ims.npy, train_caps.txt", "vocab/f30k_precomp_vocab.json")),
        ("file", ("--data-root", "file' is a file")),
    ],
)
def test_data_root(root: str | None, parts: tuple[str, ...], cli: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "empty" / "f30k_precomp").mkdir(parents=True)
    (tmp_path / "file").touch()
    where = () if root is None else ("--data-root", tmp_path / root)
    result = cli("run", "--method", "triplet", "--dataset", "f30k", *where, "--out", tmp_path / "runs")
    judge(result, *parts)
    assert not (tmp_path / "runs").exists()


def permutation(moved: int) -> np.ndarray:
    """Return a permutation that moves exactly the first `moved` images."""
    return np.concatenate([np.roll(np.arange(moved), 1), np.arange(moved, N_IMAGES)])


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ("cannot read noise file", "noise.npy: No such file or directory")),
        (b"rubbish", ("noise.npy is not a .npy file",)),
        (np.arange(7), ("noise.npy has 7 entries, expected 40 (one per image) or 200",)),
        (permutation(8) * 1.0, ("noise.npy has dtype float64, expected integers",)),
        (permutation(8) + 1, ("row 39: image 40 is out of range; this training set has images 0 to 39",)),
        (permutation(16), ("mismatches 0.4000 of the images, but the noise ratio is 0.2",)),
        (np.zeros(N_IMAGES, np.int64), ("row 1: image 0 is also in row 0", "must be a permutation")),
    ],
    ids=["missing", "rubbish", "length", "float", "range", "ratio", "no permutation"],
)
def test_noise_files(
    content: bytes | np.ndarray | None, parts: tuple[str, ...], cli: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "noise.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    where = ("--dataset", "f30k", "--data-root", ROOT, "--out", tmp_path / "runs")
    result = cli("run", "--method", "triplet", *where, "--noise", 0.2, "--protocol", f"file:{path}")
    judge(result, *parts)
    assert not (tmp_path / "runs").exists()


def test_noise_where_the_ratio_is_natural(
    toy_run: Callable[..., Result],
    register: Callable[[str, str, object], None],
    make_dataset: Callable[..., object],
    tmp_path: Path,
) -> None:
    class Natural:
        summary, needs_root, name = "", False, "natural"

        def load(self, root: Path | None) -> object:
            return make_dataset(name="natural", truth_known=False)

    register("ncbench.datasets", "natural", Natural())
    judge(toy_run("--method", "quick", "--dataset", "natural"), "expected --noise natural, found 0.2.")
    assert list(tmp_path.iterdir()) == []
    assert toy_run("--method", "quick", "--dataset", "natural", "--noise", "natural").exit_code == 0
    judge(toy_run("--method", "quick", "--noise", "natural"), "--noise natural is for datasets that are noisy")


def test_a_device_that_is_not_here(
    toy_run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = toy_run("--method", "quick", "--device", "cuda")
    judge(result, "--device cuda: not available on this machine; available: cpu")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["run", "report"])
def test_out_that_cannot_be_written(
    command: str, cli: Callable[..., Result], toy_run: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "deeper"
    if command == "run":
        result = toy_run("--method", "quick", "--noise", 0.2, "--out", out)
    else:
        assert toy_run("--method", "quick", "--noise", 0.2).exit_code == 0
        result = cli("report", "--runs", tmp_path / "runs", "--out", out)
    judge(result, str(tmp_path / "file"), "Not a directory")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("rum",), ("No such command 'rum'.", "run")),
        (("--nosuch",), ("No such option '--nosuch'",)),
        (("methods", "lits"), ("No such command 'lits'.",)),
        (("methods", "show"), ("Missing argument 'NAME'.",)),
        (("methods", "show", "tripet"), ("unknown method 'tripet'. Did you mean 'triplet'?",)),
        (("methods", "list", "extra"), ("unexpected extra argument (extra)",)),
        (("data", "lst"), ("No such command 'lst'.",)),
        (("data", "list", "--jsn"), ("No such option '--jsn'", "--json")),
        (("runs", "--out", "x"), ("No such option '--out'",)),
        (("report", "--run", "x"), ("No such option '--run'", "--runs")),
    ],
    ids=str,
)
def test_other_commands_refuse(words: tuple[str, ...], parts: tuple[str, ...], cli: Callable[..., Result]) -> None:
    judge(cli(*words), *parts)


@pytest.mark.parametrize("command", ["runs", "report"])
@pytest.mark.parametrize("exists", [True, False])
def test_folder_without_runs(command: str, exists: bool, cli: Callable[..., Result], tmp_path: Path) -> None:
    folder, out = tmp_path / "records", tmp_path / "pages"
    if exists:
        folder.mkdir()
    result = cli(command, "--runs", folder, *(("--out", out) if command == "report" else ()))
    hint = f"make one with: ncbench run --method triplet --out {folder}"
    judge(result, f"{folder} has no finished run; {hint}")
    assert not out.exists()


@pytest.mark.parametrize("command", ["runs", "report"])
def test_folder_that_is_a_file(command: str, cli: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    judge(cli(command, "--runs", tmp_path / "file"), "--runs", "is a file")


DAMAGE = [
    (b'{"schema": 1, "met', "result.json: cannot be read as a run record (", "restore it or delete its folder."),
    (b"", "result.json: cannot be read as a run record (", "restore it or delete its folder."),
    (b'{"schema": 7}', "result.json: schema 7 is not supported (expected 1)."),
    (b'{"schema": 1}', "result.json"),
    (b'{"schema": 1, "spec": {}, "metrics": {"test": {}}, "id": "x"}', "result.json"),
]


@pytest.mark.parametrize("command", ["runs", "report"])
@pytest.mark.parametrize("damage", DAMAGE, ids=["cut", "empty", "schema", "no keys", "few keys"])
def test_damaged_records(command: str, damage: tuple[bytes, ...], cli: Callable[..., Result], tmp_path: Path) -> None:
    content, *parts = damage
    folder = tmp_path / "tiny" / "quick" / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "result.json").write_bytes(content)
    out = ("--out", tmp_path / "pages") if command == "report" else ()
    result = cli(command, "--runs", tmp_path, *out)
    assert (result.exit_code, result.stdout) == (1 if command == "runs" else 2, "")
    assert all(str(part).rstrip(".") in result.stderr for part in (folder, *parts))
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "pages").exists()


def test_a_damaged_record_is_told_before_any_run_starts(toy_run: Callable[..., Result], tmp_path: Path) -> None:
    words = ("--method", "quick", "--noise", 0.2)
    assert toy_run(*words, "--seed", 1).exit_code == 0
    (path,) = (tmp_path / "runs").glob("*/*/*/result.json")
    path.write_text("{")
    result = toy_run(*words, "--seed", "0,1")  # seed 0 would run first
    assert result.exit_code == 2
    assert f"Error: {path}: cannot be read as a run record (" in result.stderr
    assert [folder.name for folder in (tmp_path / "runs" / "tiny" / "quick").iterdir()] == [path.parent.name]


def test_record_that_is_a_folder_is_no_finished_run(cli: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "tiny" / "quick" / "0123456789ab" / "result.json").mkdir(parents=True)
    result = cli("runs", "--runs", tmp_path)
    assert result.exit_code == 1
    assert "result.json: cannot be read as a run record " in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--protocol", "./idx.npy"), "noise protocol './idx.npy' is an index file; use file:./idx.npy."),
        (("--protocol", "idx.npy"), "noise protocol 'idx.npy' is an index file; use file:idx.npy."),
        (("--dataset", "d/f30k_precomp"), "with the released files of f30k; use --dataset f30k --data-root d."),
        (("--dataset", "./d"), "with the released files of f30k; use --dataset f30k --data-root ./d."),
        (("--dataset", "d"), "with the released files of f30k; use --dataset f30k --data-root d."),
    ],
)
def test_files_where_names_are_expected(
    words: tuple[str, ...], message: str, cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d" / "f30k_precomp").mkdir(parents=True)
    (tmp_path / "idx.npy").touch()
    result = cli("run", "--method", "triplet", *words)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
