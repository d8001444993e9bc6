"""The conformance suite of methods: every registered method passes, and every breach is found by its own check."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from broken_methods import BROKEN, PREVENTED, Busy, Hoarding, LateBird, Peeping, Sound, Unseen

from ncbench import Method, UserError
from ncbench.backbones.registry import BACKBONES, members_of
from ncbench.checks.method import learning, spending
from ncbench.checks.method.candidate import Candidate, settings_for
from ncbench.checks.method.suite import CHECKS, check_method_class
from ncbench.checks.verdicts import Failed, Verdict, judge
from ncbench.method.registry import GROUP, load_method
from ncbench.method.settings import parse_override
from ncbench.plugins.discovery import plugin_names
from ncbench.training.seclusion import Secluded

NAMES = [check.name for check in CHECKS]


def failed(verdicts: list[Verdict]) -> dict[str, str]:
    return {verdict.check: verdict.detail for verdict in verdicts if verdict.outcome == "fail"}


FIRST = ("triplet", "l2rm", "ncr", "mscn")  # one network, a queue, two networks, clean pairs: the others are slow tests


@pytest.mark.parametrize(
    "name", [name if name in FIRST else pytest.param(name, marks=pytest.mark.slow) for name in plugin_names(GROUP)]
)
def test_registered_methods_conform(name: str) -> None:
    verdicts = list(check_method_class(load_method(name)))
    assert [verdict.check for verdict in verdicts] == NAMES
    assert failed(verdicts) == {}
    skipped = {verdict.check for verdict in verdicts if verdict.outcome == "skipped"}
    assert skipped <= {"pair-scores", "hidden", "numbers"}
    assert ("hidden" in skipped) == ("numbers" in skipped) == load_method(name).needs_truth


def test_a_sound_method_passes_everything() -> None:
    verdicts = list(check_method_class(Sound))
    assert Counter(verdict.outcome for verdict in verdicts) == {"pass": len(CHECKS)}
    assert all(verdict.seconds >= 0 and verdict.proves and verdict.remedy for verdict in verdicts)


def test_every_check_has_a_method_that_fails_it() -> None:
    assert {check for check, _ in (*BROKEN.values(), *PREVENTED.values())} == set(NAMES)


@pytest.fixture
def in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let methods run in the thread of the harness, unguarded."""
    monkeypatch.setattr(Secluded, "call", lambda _, function, *args: function(*args))


@pytest.mark.parametrize("method", PREVENTED)
def test_what_is_prevented_would_be_found(method: type[Method], tmp_path: Path, in_one_thread: None) -> None:
    check, words = PREVENTED[method]
    (examined,) = (one for one in CHECKS if one.name == check)
    with pytest.raises(Failed, match=words):
        examined.examine(Candidate(method, tmp_path))


def test_nothing_is_found_in_frames(tmp_path: Path) -> None:
    loop = Candidate(Peeping, tmp_path).loop()
    loop.set_up()
    assert loop.method.inner.known is None  # type: ignore[attr-defined]
    Candidate(Hoarding, tmp_path).run().execute()
    assert not hasattr(Hoarding, "hoard")


@pytest.mark.parametrize("method", BROKEN, ids=lambda method: method.__name__.lower())
def test_a_breach_is_found_by_its_own_check(
    method: type[Method], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    check, words = BROKEN[method]
    if check == "devices":
        monkeypatch.setattr(learning, "devices", lambda: {"cpu": True, "cpu:0": True})
    # What costs most comes last, and is left out where it is not what is broken.
    checks = [one for one in CHECKS if one.name != "learns" or check == "learns"]
    verdicts = list(judge(checks, Candidate(method, tmp_path)))
    others = {name: text for name, text in failed(verdicts).items() if name != check}
    # A run judges beliefs while it trains, and refuses a method that trains meanwhile.
    assert all(method is LateBird and "changes the weights of its networks" in text for text in others.values()), others
    assert words in failed(verdicts)[check]
    skipped = [verdict for verdict in verdicts if verdict.outcome == "skipped" and verdict.check != "pair-scores"]
    missing = {check, *others, *(verdict.check for verdict in skipped)}
    assert all(verdict.detail in {f"requires {name} to pass" for name in missing} for verdict in skipped)


@pytest.mark.parametrize("name", [name for name in BACKBONES if len(members_of(name)) == 1])
def test_work_is_seen_with_every_backbone(name: str, tmp_path: Path) -> None:
    spending.METERED.examine(Candidate(Sound, tmp_path, name))
    with pytest.raises(Failed, match="times the FLOPs that were charged; expected at most 1"):
        spending.METERED.examine(Candidate(Unseen, tmp_path, name))


def test_training_in_a_thread_is_seen(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="weights change between two updates"):
        spending.OUTSIDE.examine(Candidate(Busy, tmp_path))


def test_a_method_that_peeps_trains_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_one_thread: None
) -> None:
    from ncbench.checks.method import blindness

    # Even if what it holds is not looked at.
    monkeypatch.setattr(blindness.Secrets, "found", lambda *_: iter(()))
    with pytest.raises(Failed, match="trains differently if only the truth, the ratio, dev and test differ: "):
        blindness.CHECK.examine(Candidate(Peeping, tmp_path))


def test_settings_of_the_suite() -> None:
    class Large(Sound):
        presets = {"scenes": {"batch_size": 64, "lr": 0.5}}

    class Bare(Sound):
        presets = {}

    assert settings_for(Sound)["lr"] == 1e-2
    assert (settings_for(Large)["batch_size"], settings_for(Large)["lr"]) == (32, 0.5)
    assert (settings_for(Bare)["batch_size"], settings_for(Bare)["lr"]) == (32, 2e-4)
    assert settings_for(Bare, (parse_override("sound.batch_size=64"),))["batch_size"] == 64


def test_networks_that_cannot_be_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--backbone sgraf: checks need a single network; choose sgr or saf\.$"):
        Candidate(Sound, tmp_path, backbone="sgraf")
    with pytest.raises(UserError, match=r"^method bare has no Config; define a frozen dataclass"):
        Candidate(type("Bare", (Method,), {"name": "bare"}), tmp_path)
    with pytest.raises(UserError, match=r"^settings of sound: batch_size must be at least 2, found 1\.$"):
        Candidate(Sound, tmp_path, overrides=(parse_override("sound.batch_size=1"),))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_cuda_is_tried(tmp_path: Path) -> None:
    assert "cuda" in learning.DEVICES.examine(Candidate(Sound, tmp_path)).partition(";")[0]


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    verdicts = check_method_class(Sound)
    assert next(verdicts).outcome == "pass"
    assert len(list(tmp_path.iterdir())) == 1
    verdicts.close()
    assert list(tmp_path.iterdir()) == []
