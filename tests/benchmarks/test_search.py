"""The search of presets: equal, reproducible, judged on dev."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import search
from board import METHODS
from click.testing import CliRunner
from search import (
    CONDITION,
    LOG,
    SCALE,
    SPACES,
    TRIALS,
    Between,
    Condition,
    OneOf,
    Trial,
    best,
    ceiling,
    condition_of,
    defaults,
    is_decided,
    logged,
    main,
    mean_score,
    next_ratio,
    options_of,
    plan,
    trials_of,
)

from ncbench.method.registry import GROUP, load_method, settings_of
from ncbench.plugins.discovery import plugin_names

NAMES = sorted(SPACES)


def test_every_method_is_searched() -> None:
    assert set(SPACES) == set(plugin_names(GROUP))


@pytest.mark.parametrize("name", NAMES)
def test_trials_begin_with_what_is_published_and_spread_over_the_space(name: str) -> None:
    published, *drawn = trials_of(name, TRIALS)
    method = load_method(name)
    kept = {entry.name: entry.default for entry in fields(method.Config)}
    assert {key for key, value in published.settings.items() if value != kept[key]} <= set(SCALE)
    assert len(drawn) == TRIALS - 1 == 11
    for trial in drawn:
        assert {key for key in kept if trial.settings[key] != published.settings[key]} <= set(SPACES[name])
        method.Config(**{key: type(kept[key])(value) for key, value in trial.settings.items()})
    rates = sorted(float(str(trial.settings["lr"])) for trial in drawn)
    low, high = 4e-4, 4e-3  # a Latin hypercube has one value in each eleventh
    bounds = [low * (high / low) ** (n / 11) for n in range(12)]
    assert all(0.95 * a <= rate <= 1.05 * b for rate, (a, b) in zip(rates, pairwise(bounds), strict=True))
    assert trials_of(name, TRIALS) == [published, *drawn]
    assert len({str(trial.settings) for trial in drawn}) == 11


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


def entry(number: int, *scores: float | None) -> dict[str, Any]:
    return {"trial": number, "runs": [{"dev_rsum": score} for score in scores]}


def test_a_trial_is_judged_by_its_mean_on_dev_if_all_its_runs_are_made() -> None:
    assert mean_score(entry(0, 400.0, 100.0)) == 250.0
    assert mean_score(entry(0, 400.0)) is None
    assert mean_score(entry(0, 400.0, None)) is None


def test_the_best_is_that_of_dev_and_of_equal_ones_the_first() -> None:
    trials = [entry(0, 1.0, 5.0), entry(1, 900.0), entry(2, 4.0, 6.0), entry(3, None, 9.0)]
    assert best([*trials, entry(4, 5.0, 5.0)]) == trials[2]
    assert best(trials[1:2]) is None


def test_trials_of_other_settings_replace_those_in_the_log() -> None:
    log: dict[str, list[dict[str, Any]]] = {}
    logged(log, Trial("rce", 1, {"lr": 0.1}))
    first = logged(log, Trial("rce", 0, {"lr": 0.2}))
    first["runs"].append({"noise": 0.4})
    assert logged(log, Trial("rce", 0, {"lr": 0.2})) is first
    assert logged(log, Trial("rce", 0, {"lr": 0.3}))["runs"] == []
    assert [one["trial"] for one in log["rce"]] == [0, 1]


def write_log(folder: Path, condition: Mapping[str, Any]) -> list[str]:
    """Write a log with the first trial of `rce`, and return the command that makes it."""
    (trial,) = trials_of("rce", 1)
    runs = [{"noise": ratio, "dev_rsum": 9.0} for ratio in condition["noise"]]
    log = {"condition": condition, "methods": {"rce": [{"trial": 0, "settings": dict(trial.settings), "runs": runs}]}}
    (folder / "log.json").write_text(json.dumps(log))
    return [
        "rce",
        "--trials",
        "1",
        "--jobs",
        "1",
        "--runs",
        str(folder / "runs"),
        "--out",
        str(folder / "log.json"),
    ]


def test_other_data_are_searched_under_their_own_conditions(tmp_path: Path) -> None:
    condition = Condition(dataset="scenes-vectors", noise=(0.6,), budget=2.0)
    tried = trials_of("rce", 2, condition)[1]
    assert tried == trials_of("rce", 2)[1]  # the same places of the space
    spec = plan(tried, 0.6, condition).spec
    assert (spec.dataset, spec.noise, spec.budget.amount) == ("scenes-vectors", 0.6, 2.0)
    assert mean_score(entry(0, 400.0), condition) == 400.0
    assert next_ratio({}, trial(0), condition) == 0.6
    words = write_log(tmp_path, asdict(condition))
    same = ["--dataset", "scenes-vectors", "--noise", "0.6", "--budget", "2"]
    assert CliRunner().invoke(main, words).exit_code == 2
    assert "rce: 9.0 by trial 0" in CliRunner().invoke(main, [*words, *same], catch_exceptions=False).output


def test_the_best_settings_as_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "TRIALS", 1)
    write_log(tmp_path, asdict(CONDITION))
    words = options_of(tmp_path / "log.json", "rce")
    assert "rce.lr=0.001" in words
    assert set(words[::2]) == {"--set"}


def test_an_incomplete_search_gives_no_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(tmp_path, asdict(CONDITION))
    with pytest.raises(ValueError, match="1 of 12 trials of rce are decided"):
        options_of(tmp_path / "log.json", "rce")
    with pytest.raises(ValueError, match="0 of 12 trials of rcl are decided"):
        options_of(tmp_path / "log.json", "rcl")
    monkeypatch.setattr(search, "TRIALS", 1)
    failed = {"condition": asdict(CONDITION), "methods": {"rce": [scored(0, n8=None)]}}
    (tmp_path / "log.json").write_text(json.dumps(failed))
    with pytest.raises(ValueError, match="no trial of rce is judged"):
        options_of(tmp_path / "log.json", "rce")


def test_a_trial_is_decided_once_it_is_judged_left_out_or_failed() -> None:
    assert is_decided(scored(0, n4=100.0, n8=5.0))
    assert is_decided(scored(0, n8=None))
    assert is_decided({**scored(0, n8=5.0), "left_out": "it could not be the best"})
    assert not is_decided(scored(0, n8=5.0))


def test_runs_in_the_log_are_not_repeated(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, write_log(tmp_path, asdict(CONDITION)), catch_exceptions=False)
    assert result.output.startswith("rce: 9.0 by trial 0, ")
    assert not (tmp_path / "runs").exists()


def test_a_log_of_other_conditions_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, write_log(tmp_path, {**asdict(CONDITION), "budget": 9.0}))
    assert result.exit_code == 2
    assert "log.json was made under other conditions" in result.output


def scored(number: int, **scores: float | None) -> dict[str, Any]:
    """Return a logged trial with scores by ratio: n4=.., n8=.."""
    runs = [{"noise": int(key[1]) / 10, "dev_rsum": score} for key, score in scores.items()]
    return {"trial": number, "settings": {"lr": number}, "runs": runs}


def trial(number: int) -> Trial:
    return Trial("rce", number, {"lr": number})


def test_the_highest_ratio_runs_first_and_then_the_other() -> None:
    assert next_ratio({}, trial(0)) == 0.8
    assert next_ratio({"rce": [scored(0, n8=100.0)]}, trial(0)) == 0.4
    assert next_ratio({"rce": [scored(0, n4=100.0)]}, trial(0)) == 0.8
    assert next_ratio({"rce": [scored(0, n4=100.0, n8=5.0)]}, trial(0)) is None
    assert next_ratio({"rce": [scored(0, n8=None)]}, trial(0)) is None  # it failed


def test_runs_of_other_settings_do_not_count() -> None:
    log = {"rce": [scored(1, n8=100.0)]}
    assert next_ratio(log, Trial("rce", 1, {"lr": 9})) == 0.8
    assert next_ratio(log, Trial("rcl", 1, {"lr": 1})) == 0.8


def test_settings_that_did_not_exist_had_their_defaults() -> None:
    (first, second) = trials_of("l2rm", 2)
    older = {key: value for key, value in first.settings.items() if key != "split"}
    entry = {"trial": 0, "settings": older, "runs": [{"noise": 0.8, "dev_rsum": 9.0}]}
    assert next_ratio({"l2rm": [entry]}, first) == 0.4
    log = {"l2rm": [entry]}
    assert logged(log, first) is entry
    assert next_ratio({"l2rm": [{**entry, "trial": 1}]}, second) == 0.8
    assert next_ratio({"l2rm": [entry]}, Trial("l2rm", 0, {**first.settings, "split": "none"})) == 0.8


def test_a_ratio_is_left_out_where_it_cannot_make_a_trial_the_best() -> None:
    leader, others = scored(0, n4=500.0, n8=400.0), [scored(0, n4=530.0, n8=100.0)]
    assert ceiling({"rce": [leader], "oracle": others}, 0.4) == 540.0
    assert ceiling({"rce": [leader]}, 0.6) == float("inf")
    for score, expected in ((360.0, 0.4), (359.0, None)):  # with 540, its mean would be 450 or less
        log = {"rce": [leader, scored(1, n8=score)], "oracle": others}
        assert next_ratio(log, trial(1)) == expected


def test_a_trial_is_planned_with_its_settings() -> None:
    tried = trials_of("rce", 2)[1]
    spec = plan(tried, 0.8).spec
    assert (spec.noise, spec.seed, dict(spec.settings)) == (0.8, 100, tried.settings)


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_the_best_trial(name: str) -> None:
    trials = json.loads(LOG.read_text())["methods"][name]
    assert [entry["trial"] for entry in trials] == list(range(TRIALS))
    chosen = best(trials)
    assert chosen is not None
    assert settings_of(load_method(name), CONDITION.dataset) == {**defaults(name), **chosen["settings"]}


def test_the_log_of_version_1_is_complete() -> None:
    log = json.loads(LOG.with_name("search-scenes-1.json").read_text())
    assert set(log["methods"]) == set(NAMES) - {"coteaching", "gce", "rince"}  # which came later
    assert {len(trials) for trials in log["methods"].values()} == {6}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dataset", ["photos", "icons"])
def test_logs_of_other_data_have_every_trial_judged_or_left_out(dataset: str, name: str) -> None:
    content = json.loads(LOG.with_name(f"search-{dataset}.json").read_text())
    condition = condition_of(content)
    entries = content["methods"][name]
    assert [entry["settings"] for entry in entries] == [trial.settings for trial in trials_of(name, TRIALS, condition)]
    for entry in entries:
        assert (mean_score(entry, condition) is None) == ("left_out" in entry)
