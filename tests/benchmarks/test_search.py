"""The search of presets: equal, reproducible, judged on dev."""

from __future__ import annotations

import json
from dataclasses import fields
from itertools import pairwise

import pytest
from search import CONDITION, LOG, SCALE, SPACES, TRIALS_PER_ROUND, Between, OneOf, best, trials_of

from ncbench.method.registry import GROUP, load_method, settings_of
from ncbench.plugins.discovery import plugin_names

NAMES = sorted(SPACES)


def test_every_method_is_searched() -> None:
    assert set(SPACES) == set(plugin_names(GROUP))


@pytest.mark.parametrize("name", NAMES)
def test_trials_begin_with_what_is_published_and_spread_over_the_space(name: str) -> None:
    published, *drawn = trials_of(name, 1)
    method = load_method(name)
    kept = {entry.name: entry.default for entry in fields(method.Config)}
    assert {key for key, value in published.settings.items() if value != kept[key]} <= set(SCALE)
    assert len(drawn) == 5
    for trial in drawn:
        assert {key for key in kept if trial.settings[key] != published.settings[key]} <= set(SPACES[name])
        method.Config(**{key: type(kept[key])(value) for key, value in trial.settings.items()})
    rates = sorted(float(str(trial.settings["lr"])) for trial in drawn)
    assert 7e-4 <= rates[0] < 1.1e-3  # a Latin hypercube has one value in each fifth
    assert 3.3e-3 < rates[-1] <= 5e-3
    assert trials_of(name, 2)[:6] == [published, *drawn]  # more rounds do not change those before
    assert len({str(trial.settings) for trial in trials_of(name, 2)}) == 11


def test_spaces_hold_settings_that_exist_and_are_few() -> None:
    for name, space in SPACES.items():
        assert set(space) <= {entry.name for entry in fields(load_method(name).Config)}
        assert 3 <= len(space) <= 5


def test_dimensions() -> None:
    assert [Between(1, 3).at(x) for x in (0, 0.5, 0.999999)] == [1.0, 2.0, 3.0]
    assert [Between(0.01, 1, log=True).at(x) for x in (0, 0.5)] == [0.01, 0.1]
    assert Between(0, 1).at(0.123456) == 0.12
    assert [OneOf((0, 1, 3)).at(x) for x in (0, 0.33, 0.34, 0.67, 0.9999)] == [0, 0, 1, 3, 3]
    values = [Between(7e-4, 5e-3, log=True).at(x / 20) for x in range(20)]
    assert all(a < b for a, b in pairwise(values))


def test_the_best_is_that_of_dev_and_of_equal_ones_the_first() -> None:
    trials = [{"trial": 0, "dev_rsum": 3.0}, {"trial": 1, "dev_rsum": None}, {"trial": 2, "dev_rsum": 5.0}]
    assert best([*trials, {"trial": 3, "dev_rsum": 5.0}])["trial"] == 2
    with pytest.raises(ValueError):  # noqa: PT011 - max's own words
        best([{"trial": 0, "dev_rsum": None}])


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_the_published_settings_at_the_scale_of_scenes(name: str) -> None:
    """Until the search has run on version 2 of `scenes`; the log of version 1 is kept for its leaderboard."""
    published, *_ = trials_of(name, 0)
    found = settings_of(load_method(name), CONDITION.dataset)
    changed = {key for key, value in published.settings.items() if found[key] != value}
    assert changed == ({"warmup"} if name == "l2rm" else set())


def test_the_log_of_version_1_is_complete() -> None:
    log = json.loads(LOG.with_name("search-scenes-1.json").read_text())
    assert set(log["methods"]) == set(NAMES)
    assert {len(trials) for trials in log["methods"].values()} == {1 + TRIALS_PER_ROUND}
