"""Checks of noise protocols: registered ones pass, and every violation fails its own check."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from correspondences import draw

from ncbench import UserError
from ncbench.checks.noise import CHECKS, ProtocolUnderTest
from ncbench.checks.verdicts import Verdict, judge
from ncbench.cli import main
from ncbench.noise.registry import GROUP, check_protocol, load_protocol, protocol_names
from ncbench.plugins.discovery import plugin_names

TEXT = '''
"""Noise of one's own."""

import numpy as np

from ncbench import NoiseProtocol, NoiseRequest, Splices


def draw(request):
    """Let so many images take one another's places, round and round."""
    moved = np.arange(request.n_images)
    order = request.rng.permutation(request.n_images)
    chosen = order[: int(request.ratio * request.n_images)]
    moved[chosen] = np.roll(chosen, 1)
    return moved[request.true], "images"


SUMMARY = "images change places, none keeps its own"
CAROUSEL = NoiseProtocol("carousel", "1", "images", SUMMARY, draw, nested=True, exact=True)
'''
CHOSEN = "order[: int(request.ratio * request.n_images)]"
RETURN = 'return moved[request.true], "images"'
BROKEN: dict[str, tuple[tuple[str, str], str, str]] = {
    "summary": (('"images change places, none keeps its own"', '""'), "named", "summary must be one line of text"),
    "version": (('"carousel", "1"', '"carousel", " "'), "named", "version must be one line of text, found ' '"),
    "type": (
        (RETURN, 'return list(moved), "images"'),
        "draws",
        "returned list, expected an int64 vector with an image",
    ),
    "dtype": (
        (RETURN, 'return moved[request.true].astype("i4"), "images"'),
        "draws",
        "returned int32 (1000,)",
    ),
    "range": ((RETURN, 'return moved[request.true] + 1, "images"'), "draws", "returned images 1 to 200, expected 0"),
    "word": ((RETURN, 'return moved[request.true], "image"'), "draws", "returned the unit 'image', expected capt"),
    "truth": (
        (RETURN, 'claimed = moved[request.true]; request.true[0] = 1; return claimed, "images"'),
        "truth-untouched",
        "it modifies the true correspondence in place",
    ),
    "clean": (
        (CHOSEN, "order[: max(2, int(request.ratio * request.n_images))]"),
        "clean-at-0",
        "10 pairs are mismatched",
    ),
    "seed": (
        ("request.rng.permutation", "np.random.default_rng(0).permutation"),
        "seeded",
        "different seeds draw the same noise",
    ),
    "entropy": (
        ("request.rng.permutation", "np.random.default_rng().permutation"),
        "seeded",
        "the same seed draws different noise",
    ),
    "hash": (
        (
            "order = request",
            "order = np.random.default_rng(hash('x') % 99 + request.rng.integers(2**31)).permutation("
            "request.n_images) if True else request",
        ),
        "stable",
        "another process draws different noise from the same seed",
    ),
    "unit": (('"1", "images"', '"1", "captions"'), "unit", "declares unit captions, but draws noise of unit images"),
    "moves": (
        (RETURN, 'return np.where(np.arange(len(request.true)) % 2, moved[request.true], request.true), "images"'),
        "unit",
        "declares unit images, but moves single captions",
    ),
    "half": (
        (CHOSEN, "order[: int(request.ratio * request.n_images / 2)]"),
        "ratio",
        "20 of 200 images are mismatched",
    ),
    "exact": (
        (CHOSEN, "order[: max(0, int(request.ratio * request.n_images) - 1)]"),
        "ratio",
        "39 of 200 images are mismatched; expected 40",
    ),
    "words": (
        (RETURN, 'return moved[request.true], "words"'),
        "unit",
        "declares unit images, but draws noise of unit words",
    ),
    "both": (
        (
            RETURN,
            'return moved[request.true], "images", Splices(np.array([[0, 1, 1, 1, 1]])) if request.ratio else None',
        ),
        "unit",
        "declares unit images, but moves both captions and words",
    ),
    "fresh": (
        ("order = ", "request.rng.random(int(10 * request.ratio)); order = "),
        "nested",
        "mismatched at ratio 0.2 but not at",
    ),
    "shape": (
        (RETURN, 'return moved[np.repeat(np.arange(request.n_images), 5)][: len(request.true)], "images"'),
        "any-shape",
        "one caption per image: at ratio 0, ",
    ),
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NCBENCH_PLUGINS", raising=False)
    (tmp_path / "noise").mkdir()
    path = tmp_path / "noise" / "carousel.py"
    path.write_text(TEXT)
    return path


@pytest.fixture
def call() -> Callable[..., Result]:
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])


def failed(verdicts: list[Verdict]) -> dict[str, str]:
    return {verdict.check: verdict.detail for verdict in verdicts if verdict.outcome == "fail"}


FIRST = (
    "shuffle-images",
    "concentrated",
    "partial",
    "harvested",
    "file",
)  # one of each unit or source; the others are slow tests


@pytest.mark.parametrize(
    "name", [name if name in FIRST else pytest.param(name, marks=pytest.mark.slow) for name in plugin_names(GROUP)]
)
def test_registered_protocols_conform(name: str, tmp_path: Path) -> None:
    verdicts = list(judge(CHECKS, ProtocolUnderTest.of(name, tmp_path)))
    assert failed(verdicts) == {}
    skipped = {verdict.check for verdict in verdicts if verdict.outcome == "skipped"}
    protocol = load_protocol(name)
    of_noise = set() if protocol.makes_noise else {"seeded", "unit", "ratio"}
    assert skipped == of_noise | (set() if protocol.nested else {"nested"})


def test_every_check_has_a_protocol_that_fails_it() -> None:
    assert {check for _, check, _ in BROKEN.values()} == {check.name for check in CHECKS}


@pytest.mark.parametrize("breach", BROKEN)
def test_a_breach_is_found_by_its_own_check(breach: str, file: Path, tmp_path: Path) -> None:
    (old, new), check, words = BROKEN[breach]
    assert old in TEXT
    file.write_text(TEXT.replace(old, new))
    checks = [one for one in CHECKS if one.name != "stable" or check == "stable"]  # it starts a process
    found = failed(list(judge(checks, ProtocolUnderTest.of(str(file), tmp_path))))
    assert list(found) == [check], found
    assert words in found[check]


def test_a_protocol_in_a_file(file: Path, call: Callable[..., Result]) -> None:
    result = call("noise", "check", file)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Checks of noise protocol carousel")
    assert result.stdout.endswith("10 passed, 0 failed, 0 skipped\n")
    assert call("noise", "check", "carousel").exit_code == 0  # found in ./noise
    listed = call("noise", "list")
    assert "carousel" in listed.stdout
    true = np.arange(50) // 5
    by_name, by_path = (draw(text, 0.4, true, 10, 0) for text in ("carousel", str(file)))
    assert by_name == by_path
    assert by_path.protocol == "carousel"
    assert by_path.mismatch(true) == 0.4


def test_a_protocol_that_fails(file: Path, call: Callable[..., Result]) -> None:
    file.write_text(TEXT.replace(*BROKEN["half"][0]))
    result = call("noise", "check", "noise/carousel.py")
    assert result.exit_code == 1
    assert "ratio failed. Requirement: the share of mismatched items equals" in result.stdout
    assert json.loads(call("noise", "check", "noise/carousel.py", "--json").stdout)["failed"] == 1


def test_list_as_json(call: Callable[..., Result]) -> None:
    rows = json.loads(call("noise", "list", "--json").stdout)
    assert {row["name"] for row in rows} >= {"file", "shuffle-captions"}
    assert next(row for row in rows if row["name"] == "file")["usage"] == "file:PATH"
    assert set(rows[0]) == {"name", "usage", "version", "unit", "summary"}


def test_a_broken_one_does_not_hide_the_others(
    file: Path, call: Callable[..., Result], register: Callable[..., None]
) -> None:
    file.with_name("bad.py").write_text("def broken(:")
    register("ncbench.noise", "gone", ImportError("No module named 'gone'"))
    register("ncbench.noise", "other", len)
    register("ncbench.noise", "alias", load_protocol("file"))
    result = call("noise", "list")
    assert result.exit_code == 0
    assert "carousel" in result.stdout
    assert "shuffle-images" in result.stdout
    alias, bad, gone, other = result.stderr.splitlines()
    assert alias.endswith("entry point 'alias' loads a noise protocol named 'file'; the two names must match")
    assert bad.startswith(f"Warning: noise protocol file {file.with_name('bad.py')} cannot be parsed: SyntaxError: ")
    assert gone.endswith("'gone' (somewhere:Thing) cannot be loaded: ImportError: No module named 'gone'")
    assert other.endswith("noise protocol 'other' is <built-in function len>, expected an ncbench.NoiseProtocol")
    with pytest.raises(
        UserError,
        match=r"unknown noise protocol 'carousle'\. Did you mean 'carousel'\?.* gone, harvested, natural, other,",
    ):
        check_protocol("carousle")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("shuffle-image",), "unknown noise protocol 'shuffle-image'. Did you mean 'shuffle-images'"),
        (("no.py",), "noise protocol file no.py: file not found."),
        (("file:x.npy",), "file:x.npy: only protocols can be checked, not index files. Use: ncbench noise check file"),
    ],
)
def test_bad_input(words: tuple[str, ...], message: str, call: Callable[..., Result]) -> None:
    result = call("noise", "check", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {message}")


def test_runs_take_protocols_in_files(
    file: Path, call: Callable[..., Result], register: Callable[..., None], tiny: object, tmp_path: Path
) -> None:
    from sources import Source

    register("ncbench.datasets", "tiny", Source(tiny))  # type: ignore[arg-type]
    common = ["--dataset", "tiny", "--backbone", "vse", "--budget", "1", "--noise", "0.4", "--jobs", "1"]
    common += ["--set", "triplet.batch_size=8"]
    result = call("run", "--method", "triplet", *common, "--protocol", f"{file},shuffle-images", "--out", "runs")
    assert result.exit_code == 0, result.output
    specs = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/*/*/spec.json")]
    assert {(spec["protocol"], spec["unit"]) for spec in specs} == {
        ("carousel", "images"),
        ("shuffle-images", "images"),
    }
    kept = call("run", "--method", "triplet", *common, "--protocol", "carousel", "--out", "runs")
    assert "already done" in kept.stdout
    assert protocol_names() == sorted([*plugin_names(GROUP), "carousel"])


def test_an_error_of_a_protocol_is_told_in_a_line(file: Path, call: Callable[..., Result]) -> None:
    file.write_text(TEXT.replace(CHOSEN, "order[: 1 // 0]"))
    with pytest.raises(UserError) as caught:
        draw("carousel", 0.4, np.arange(10), 10, 0)
    expected = "noise protocol 'carousel' failed at ratio 0.4: ZeroDivisionError: integer division or modulo by zero"
    assert str(caught.value) == f"{expected} (carousel.py, line 13)"
