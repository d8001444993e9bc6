"""Plugins: names, unknown and broken plugins, and objects that are not methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from torch import Tensor

from ncbench import Batch, Method, Settings, SingleNetwork, UserError
from ncbench.data.dataset import Dataset
from ncbench.data.registry import dataset_names, dataset_source, load_dataset
from ncbench.errors import unknown_name
from ncbench.method.registry import load_method, make_config
from ncbench.plugins.discovery import check_plugin, load_plugin, plugin_names

Register = Callable[..., None]


class Unset(Method):
    name = "unset"

    def setup(self, task):
        raise NotImplementedError

    def train_epoch(self, epoch):
        raise NotImplementedError


class Nothing(Unset):
    name = "nothing"
    Config = Settings


class Source:
    """A dataset in memory."""

    name, summary, needs_root = "made-up", "for one test", False

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.roots: list[object] = []

    def load(self, root: object) -> Dataset:
        self.roots.append(root)
        return self.dataset


def test_names_are_sorted_and_unique(register: Register) -> None:
    for name in ("b", "a", "b"):
        register("test.group", name, object())
    assert plugin_names("test.group") == ["a", "b"]
    assert plugin_names("test.empty") == []


def test_load(register: Register) -> None:
    thing = object()
    register("test.group", "a", thing)
    check_plugin("test.group", "gadget", "a")
    assert load_plugin("test.group", "gadget", "a") is thing


def test_naming_loads_nothing(register: Register) -> None:
    register("test.group", "broken", ImportError("no such thing"))
    assert plugin_names("test.group") == ["broken"]
    check_plugin("test.group", "gadget", "broken")


@pytest.mark.parametrize("lookup", [check_plugin, load_plugin])
def test_unknown_plugin(lookup: Callable[[str, str, str], object], register: Register) -> None:
    register("test.group", "alpha", object())
    register("test.group", "beta", object())
    with pytest.raises(UserError) as caught:
        lookup("test.group", "gadget", "alpa")
    assert str(caught.value) == "unknown gadget 'alpa'. Did you mean 'alpha'? Known: alpha, beta."
    with pytest.raises(UserError) as caught:
        lookup("test.empty", "gadget", "alpa")
    assert str(caught.value) == "unknown gadget 'alpa'. Known: none."


@pytest.mark.parametrize("error", [ImportError("no module"), AttributeError("no such name"), ZeroDivisionError("oh")])
def test_broken_plugin(error: Exception, register: Register) -> None:
    register("test.group", "a", error)
    with pytest.raises(UserError) as caught:
        load_plugin("test.group", "gadget", "a")
    assert str(caught.value) == f"gadget 'a' (somewhere:Thing) cannot be loaded: {type(error).__name__}: {error}"
    assert caught.value.__cause__ is error


def test_a_name_that_is_registered_twice(register: Register) -> None:
    register("test.group", "a", object(), "two:Thing")
    register("test.group", "a", ImportError("not loaded"), "one:Thing")
    check_plugin("test.group", "gadget", "a")
    with pytest.raises(UserError) as caught:
        load_plugin("test.group", "gadget", "a")
    expected = "gadget 'a' is registered twice, as one:Thing and two:Thing; uninstall or rename one"
    assert str(caught.value) == expected


def test_one_thing_found_twice_is_one_plugin(register: Register) -> None:
    # Happens if a package is installed and its source folder is on the path too.
    thing = object()
    for _ in range(2):
        register("test.group", "a", thing, "one:Thing")
    assert load_plugin("test.group", "gadget", "a") is thing


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("x", [], "unknown kind 'x'. Known: none."),
        ("zzz", ["b", "a"], "unknown kind 'zzz'. Known: a, b."),
        ("aab", ["aaa", "aac", "q"], "unknown kind 'aab'. Did you mean 'aac' or 'aaa'? Known: aaa, aac, q."),
    ],
)
def test_unknown_name(name: str, known: list[str], expected: str) -> None:
    assert str(unknown_name("kind", name, known)) == expected


def test_methods_are_subclasses_of_method(register: Register) -> None:
    register("ncbench.methods", "nothing", Nothing)
    assert load_method("nothing") is Nothing
    for name, thing in {"function": len, "other": dict, "instance": Nothing(None)}.items():
        register("ncbench.methods", name, thing)
        with pytest.raises(UserError) as caught:
            load_method(name)
        assert str(caught.value) == f"method {name!r} is {thing!r}, not a subclass of ncbench.Method."


@pytest.mark.parametrize("config", [None, dict, Settings()])
def test_methods_have_settings(config: object, register: Register) -> None:
    class Other(Unset):
        pass

    if config is not None:
        Other.Config = config
    register("ncbench.methods", "unset", Other)
    with pytest.raises(UserError) as caught:
        load_method("unset")
    assert str(caught.value) == (
        "method 'unset': Other has no dataclass Config; start it with `@dataclass(frozen=True) class "
        "Config(TrainingSettings)`."
    )


def test_methods_that_run_are_complete(register: Register) -> None:
    class Halfway(SingleNetwork):
        name = "halfway"

        def los(self, similarities: Tensor, batch: Batch) -> Tensor:
            return similarities.sum()

    register("ncbench.methods", "halfway", Halfway)
    with pytest.raises(UserError, match=r"^method 'halfway': Halfway does not implement loss\.$"):
        make_config(load_method("halfway"), {})


def test_methods_are_called_as_they_are_registered(register: Register) -> None:
    register("ncbench.methods", "something", Nothing)
    with pytest.raises(UserError) as caught:
        load_method("something")
    expected = "entry point 'something' loads a method named 'nothing'; the two names must match"
    assert str(caught.value) == expected


class Picky(Nothing):
    name = "picky"

    @dataclass(frozen=True)
    class Config:
        size: int = 1

        def __post_init__(self) -> None:
            if self.size < 1:
                raise ValueError(f"size must be at least 1, found {self.size}")


def test_config() -> None:
    assert make_config(Picky, {"size": 3}) == Picky.Config(3)
    assert make_config(Picky, {}) == Picky.Config()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, r"^settings of picky: size must be at least 1, found 0\.$"),
        ({"seize": 1}, r"^settings of picky: .*unexpected keyword argument 'seize'.*\.$"),
        ({"size": "many"}, r"^settings of picky: '<' not supported between .*\.$"),
    ],
)
def test_settings_that_the_config_refuses(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make_config(Picky, settings)
    assert isinstance(caught.value.__cause__, ValueError | TypeError)


def test_other_errors_of_a_config_are_not_the_users() -> None:
    class Broken(Nothing):
        def Config(**_: object) -> None:  # noqa: N802
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make_config(Broken, {})


def test_methods_believe_nothing_by_default() -> None:
    method = Nothing(None)
    assert method.pair_scores() is None
    assert method.rematches() is None
    assert method.presets == {}


def test_shipped_methods_are_found() -> None:
    for name in ("l2rm", "triplet"):
        assert load_method(name).name == name


def test_unknown_method() -> None:
    with pytest.raises(UserError, match=r"^unknown method 'tripled'\. Did you mean 'triplet'\?"):
        load_method("tripled")


def test_datasets_by_name(register: Register, tiny: Dataset) -> None:
    source = Source(tiny)
    register("ncbench.datasets", "made-up", source)
    assert "made-up" in dataset_names()
    assert dataset_source("made-up") is source
    assert load_dataset("made-up", None) is tiny
    assert source.roots == [None]
    with pytest.raises(UserError, match=r"^unknown dataset 'made-down'\. Did you mean 'made-up'\?"):
        load_dataset("made-down", None)


def test_shipped_datasets_are_named_as_they_are_registered() -> None:
    names = {"cc152k", "coco", "f30k", "scenes", "scenes-large", "scenes-vectors"}
    assert names <= set(dataset_names())
    for name in sorted(names):
        source = dataset_source(name)
        assert source.name == name
        assert source.summary
        assert source.needs_root == (not name.startswith("scenes"))
