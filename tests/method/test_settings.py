"""`method.key=value`: forms, types, messages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from ncbench import Method, UserError, setting
from ncbench.method.registry import settings_of
from ncbench.method.settings import Override, Settings, apply_overrides, apply_sizes, parse_override


class Toy(Method):
    name = "toy"

    @dataclass(frozen=True)
    class Config:
        size: int = setting(8, "pairs", "here")
        rate: float = setting(0.5, "learning rate", "here")
        fast: bool = setting(False, "whether it hurries", "here")
        label: str = setting("x", "what it is called", "here")
        cost: Literal["learned", "complement"] = setting("learned", "which cost", "here")

    presets: ClassVar = {"tiny": {"size": 4, "fast": True}}

    def setup(self, task):
        raise NotImplementedError

    def train_epoch(self, epoch):
        raise NotImplementedError


DEFAULTS = {"size": 8, "rate": 0.5, "fast": False, "label": "x", "cost": "learned"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("l2rm.reg=0.05", Override("l2rm", "reg", "0.05")),
        ("a.b=c=d", Override("a", "b", "c=d")),
        ("a.b=1.5", Override("a", "b", "1.5")),
        ("a.b=x.y=z", Override("a", "b", "x.y=z")),
    ],
)
def test_override_forms(text: str, expected: Override) -> None:
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["", "reg", "reg=1", "l2rm.reg", ".reg=1", "l2rm.=1", "l2rm.reg=", "=1", "x=a.b"])
def test_malformed_overrides(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_override(text)
    assert str(caught.value) == f"--set {text!r} is not of the form method.key=value, for example l2rm.reg=0.05"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("size", "16", 16),
        ("rate", "1e-3", 1e-3),
        ("rate", "2", 2.0),
        ("fast", "true", True),
        ("fast", "false", False),
        ("label", "a=b c", "a=b c"),
        ("cost", "complement", "complement"),
    ],
)
def test_values_get_the_type_of_their_setting(key: str, text: str, value: object) -> None:
    found = apply_overrides(Toy, DEFAULTS, [Override("toy", key, text)])
    assert found == {**DEFAULTS, key: value}
    assert type(found[key]) is type(value)
    Toy.Config(**found)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("size", "4.5", "must be of type int"),
        ("size", "many", "must be of type int"),
        ("rate", "fast", "must be of type float"),
        ("fast", "yes", "must be true or false"),
        ("fast", "True", "must be true or false"),
        ("cost", "free", "must be one of learned, complement"),
    ],
)
def test_bad_values(key: str, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        apply_overrides(Toy, DEFAULTS, [Override("toy", key, text)])
    assert str(caught.value) == f"--set toy.{key}={text}: {message}"


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_values_that_no_record_could_hold_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=rf"^--set toy\.rate={text}: must be"):
        apply_overrides(Toy, DEFAULTS, [Override("toy", "rate", text)])


def test_unknown_setting_names_close_ones() -> None:
    with pytest.raises(UserError) as caught:
        apply_overrides(Toy, DEFAULTS, [Override("toy", "rats", "1")])
    expected = "unknown setting of toy 'rats'. Did you mean 'rate'? Known: cost, fast, label, rate, size."
    assert str(caught.value) == expected


def test_other_methods_overrides_are_not_applied_and_the_last_one_wins() -> None:
    overrides = [Override("other", "size", "1"), Override("toy", "size", "2"), Override("toy", "size", "3")]
    before = dict(DEFAULTS)
    assert apply_overrides(Toy, DEFAULTS, overrides) == {**DEFAULTS, "size": 3}
    assert before == DEFAULTS


SCALE = {"embed": 16, "similarity": 8, "word": 8, "dropout": 0.0}


def test_sizes_of_a_backbone() -> None:
    overrides = [
        Override("backbone", "embed", "4"),
        Override("backbone", "dropout", "0.5"),
        Override("toy", "size", "1"),
    ]
    assert apply_sizes(SCALE, overrides) == {**SCALE, "embed": 4, "dropout": 0.5}
    assert apply_sizes(SCALE, []) == SCALE
    assert apply_sizes(SCALE, [Override("backbone", "lse", "20")]) == {**SCALE, "lse": 20.0}
    assert SCALE["embed"] == 16


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("embed", "0", "--set backbone.embed=0: must be above 0"),
        ("word", "-3", "--set backbone.word=-3: must be above 0"),
        ("lse", "0", "--set backbone.lse=0.0: must be above 0"),
        ("dropout", "1", "--set backbone.dropout=1.0: must be at least 0 and below 1"),
        ("dropout", "-0.5", "--set backbone.dropout=-0.5: must be at least 0 and below 1"),
        ("dropout", "nan", "--set backbone.dropout=nan: must be finite"),
        ("similarity", "2.5", "--set backbone.similarity=2.5: must be of type int"),
        ("imbed", "2", "unknown setting of backbone 'imbed'. Did you mean 'embed'"),
    ],
)
def test_bad_sizes(key: str, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        apply_sizes(SCALE, [Override("backbone", key, text)])
    assert str(caught.value).startswith(message)


@dataclass(frozen=True)
class Checked(Settings):
    size: int = setting(8, "pairs", "here", at_least=2)
    rate: float = setting(0.5, "learning rate", "here", above=0, at_most=1)
    fast: bool = setting(False, "whether it hurries", "here")
    cost: Literal["learned", "complement"] = setting("learned", "which cost", "here")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("size", 1, "size must be at least 2, found 1"),
        ("rate", 0, "rate must be above 0, found 0"),
        ("rate", 1.5, "rate must be at most 1, found 1.5"),
        ("size", 2.5, "size: expected `int`, got `float`, found 2.5"),
        ("size", True, "size: expected `int`, got `bool`, found True"),
        ("rate", "0.5", "rate: expected `float`, got `str`, found '0.5'"),
        ("fast", 1, "fast: expected `bool`, got `int`, found 1"),
        ("cost", "free", "cost: invalid enum value 'free', found 'free'"),
    ],
)
def test_types_and_bounds(key: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Checked(**{key: value})


def test_values_within_bounds() -> None:
    found = Checked(size=2, rate=1, cost="complement")
    assert (found.size, found.rate, found.cost) == (2, 1, "complement")


def test_settings_are_defaults_under_the_preset() -> None:
    assert settings_of(Toy, "elsewhere") == DEFAULTS
    assert settings_of(Toy, "tiny") == {**DEFAULTS, "size": 4, "fast": True}


def test_setting_keeps_meaning_and_source() -> None:
    entry = Toy.Config.__dataclass_fields__["rate"]
    assert dict(entry.metadata) == {"meaning": "learning rate", "source": "here"}


@pytest.mark.parametrize(("text", "meant"), [("lr=3", "triplet.lr=3"), ("embed=64", "backbone.embed=64")])
def test_a_missing_target_is_guessed(text, meant):
    with pytest.raises(UserError, match=f"method.key=value, did you mean {meant}"):
        parse_override(text, "--set", ["triplet", "ncr"])


@pytest.mark.parametrize("name", ["NCR", "L2RM", "SGRAF"])
def test_names_in_capitals_are_recognised(name):
    from ncbench.errors import unknown_name

    assert f"Did you mean {name.lower()!r}?" in str(unknown_name("thing", name, ["sgraf", "ncr", "l2rm", "ncr-x"]))
