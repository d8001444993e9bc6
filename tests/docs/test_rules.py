"""Every cheat that the rules call prevented or detected has a test that commits it."""

from __future__ import annotations

import re

import pytest
from places import ROOT

BROKEN = (ROOT / "tests/helpers/broken_methods.py").read_text()
PAGE = ROOT / "docs/pages/rules.md"
ROWS = re.findall(r"^\| (?!A method|---)(.+?) \| (.+?) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
STATUS = {cheat: status for cheat, status, _ in ROWS}

NUMBERS = "tests/training/test_numbering.py"
SUITE = "tests/checks/method/test_suite.py"
BREACH = f"{SUITE}::test_a_breach_is_found_by_its_own_check"
SECLUSION = "tests/training/test_seclusion.py"
VERIFY = "tests/cli/test_verify.py"
HELD_BY = {
    "tells clean pairs by their numbers": (
        f"{NUMBERS}::test_numbers_tell_nothing_of_the_truth",
        f"{NUMBERS}::test_nothing_in_memory_keeps_the_order_of_the_captions",
        f"{BREACH}[Numerologist]",
        f"{BREACH}[Dropping]",
    ),
    "guesses the seed of the run, to": (f"{NUMBERS}::test_the_stream_is_pinned", f"{BREACH}[Unshuffling]"),
    "guesses the seed of the run, and": (f"{SECLUSION}::test_what_a_method_may_not_do",),
    "finds the truth, the ratio": ("tests/checks/method/test_reach.py::test_nothing_hidden_is_reached_from_a_task",),
    "changes its training with the truth": (f"{SUITE}::test_a_method_that_peeps_trains_otherwise",),
    "looks through the frames": (
        f"{SECLUSION}::test_frames_end_in_the_thread",
        f"{SECLUSION}::test_an_exception_that_a_method_kept_leads_nowhere",
    ),
    "lists the objects": (f"{SECLUSION}::test_what_a_method_may_not_do",),
    "loads the dataset": (f"{SECLUSION}::test_what_a_method_may_not_do",),
    "opens or lists data files": (f"{SECLUSION}::test_what_a_method_may_not_do",),
    "reads the command line": (f"{SECLUSION}::test_what_a_method_may_not_do",),
    "starts a process": (f"{SECLUSION}::test_what_a_method_may_not_do",),
    "keeps things from one run": ("tests/sweeps/test_fresh_process.py::test_nothing_survives",),
    "puts code into its networks": (f"{BREACH}[LateBird]",),
    "trains in `setup`": (f"{BREACH}[EarlyBird]", f"{SUITE}::test_training_in_a_thread_is_seen"),
    "sets the meter back": (f"{SECLUSION}::test_a_line_leads_to_no_meter",),
    "takes the meter off": (f"{BREACH}[Unmetered]",),
    "catches the end of its budget": (f"{BREACH}[Deaf]",),
    "computes in numpy": (f"{VERIFY}::test_runs_that_take_unusually_long_are_warned_of",),
    "sees the truth, and does not say so": (f"{VERIFY}::test_a_reference_that_claims_to_be_a_contestant",),
    "has scores, beliefs or work changed": (
        f"{VERIFY}::test_ranks_that_were_improved",
        f"{VERIFY}::test_beliefs_that_were_improved",
    ),
    "has a record that is consistent": ("tests/cli/test_replay.py::test_small_and_large_differences",),
    "was submitted with the better part": ("tests/cli/test_submit.py::test_what_a_submission_claims",),
}
"""Where each cheat is committed, by the first words of its row: file::function[broken method]."""


def test_every_row_has_a_status() -> None:
    assert len(ROWS) > 20
    assert set(STATUS.values()) == {"prevented", "detected", "not detected"}
    assert len(STATUS) == len(ROWS)


@pytest.mark.parametrize("cheat", STATUS)
def test_what_is_prevented_or_detected_is_tested(cheat: str) -> None:
    tests = [found for start, found in HELD_BY.items() if cheat.startswith(start)]
    if STATUS[cheat] == "not detected":
        assert not tests
        return
    assert len(tests) == 1, f"add the test that commits this cheat to HELD_BY: {cheat}"
    for test in tests[0]:
        file, _, name = test.partition("::")
        function, _, method = name.rstrip("]").partition("[")
        assert f"def {function}" in (ROOT / file).read_text(), test
        assert not method or f"\n    {method}: (" in BROKEN, test


def test_no_test_is_named_for_a_row_that_is_gone() -> None:
    assert [start for start in HELD_BY if not any(cheat.startswith(start) for cheat in STATUS)] == []
