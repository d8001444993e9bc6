"""Which kinds of noise a method finds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from click.testing import CliRunner
from noise_kinds import KINDS, main, rows_of

from ncbench.noise.base import Change
from ncbench.noise.harvested import KINDS as HARVESTED_KINDS

CHANGES = np.array(["", "", "", "image", "image", "words", "shortened"])
P_CLEAN = np.array([0.9, 0.6, 0.4, 0.3, 0.5, 0.95, 0.1])


def audit_of(judged: list[int]) -> Any:
    return SimpleNamespace(judged=np.array(judged), p_clean=P_CLEAN, changes=lambda: CHANGES)


def test_each_change_is_compared_with_the_clean_pairs() -> None:
    assert rows_of(audit_of([0, 1, 2, 3, 4, 5, 6]), "harvested") == [
        ("clean", "3", "", "0.333"),
        ("neighbour", "2", "0.833", "0.500"),
        ("topic", "1", "1.000", "1.000"),
        ("duplicate", "1", "0.000", "0.000"),
    ]


def test_given_pairs_are_left_out_and_other_protocols_keep_their_words() -> None:
    assert rows_of(audit_of([0, 1, 3, 5]), "partial") == [
        ("clean", "2", "", "0.000"),
        ("image", "1", "1.000", "1.000"),
        ("words", "1", "0.000", "0.000"),
    ]


def test_every_run_has_a_row_for_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    audit = audit_of([*range(7)])
    audit.title, audit.spec = "ncr on tiny, harvested 0.4", SimpleNamespace(protocol="harvested")
    monkeypatch.setattr("noise_kinds.load_audit", lambda run, data_root: audit)
    result = CliRunner().invoke(main, ["one", "other"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert len(lines) == 2 + 2 * 4
    assert lines[3] == "| ncr on tiny, harvested 0.4 | neighbour | 2 | 0.833 | 0.500 |"


def test_the_names_of_kinds_follow_the_protocol() -> None:
    assert tuple(KINDS.values()) == HARVESTED_KINDS
    assert {"", *KINDS} == {*get_args(Change)}
