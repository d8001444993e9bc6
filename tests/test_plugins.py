"""Plugins: names, unknown ones, broken ones, things that are no method."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ncbench import Method, UserError
from ncbench.catalog import dataset_names, dataset_source, load_dataset
from ncbench.data.dataset import Dataset
from ncbench.errors import unknown_name
from ncbench.methods import load_method
from ncbench.plugins import check_plugin, load_plugin, plugin_names

Register = Callable[[str, str, object], None]


class Nothing(Method):
    name = "nothing"

    def setup(self, task):
        raise NotImplementedError

    def train_epoch(self, epoch):
        raise NotImplementedError


class Source:
    """A dataset that is there already."""

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
    names = {"cc152k", "coco", "f30k", "scenes", "scenes-large"}
    assert names <= set(dataset_names())
    for name in sorted(names):
        source = dataset_source(name)
        assert source.name == name
        assert source.summary
        assert source.needs_root == (not name.startswith("scenes"))
