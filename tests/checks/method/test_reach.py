"""Following references: what leads where, and what a task of the harness leads to."""

from __future__ import annotations

import functools
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from broken_methods import Sound

from ncbench.checks.method.blindness import Secrets, as_vector, swapped, with_other_secrets
from ncbench.checks.method.candidate import Candidate
from ncbench.checks.method.reach import reachable
from ncbench.noise.registry import draw_noise
from ncbench.records.spec import RunSpec
from ncbench.training.numbering import Numbering, inverse


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held: object) -> None:
        self.held = held


class Treasure:
    def method(self) -> None:
        pass


def closing_over(thing: object):
    def inner() -> object:
        return thing

    return inner


def generating(thing: object):
    yield 1
    yield thing


def begun(thing: object):
    found = generating(thing)
    next(found)
    return found


WAYS = {
    "[0]": lambda t: [t],
    "['a'].b": lambda t: {"a": SimpleNamespace(b=t)},
    " -> ": Slotted,
    ".__self__": lambda t: t.method,
    ".__closure__": closing_over,
    ".args[0]": lambda t: functools.partial(print, t),
    "()": weakref.ref,
    ".gi_frame.f_locals['thing']": begun,
    ".tolist()[0]": lambda t: np.array([t], dtype=object),
}


@pytest.mark.parametrize("step", WAYS)
def test_a_treasure_is_found(step: str) -> None:
    treasure = Treasure()
    paths = [path for path, thing in reachable({"root": WAYS[step](treasure)}) if thing is treasure]
    assert paths == [f"root{step}"]


def test_an_array_leads_to_what_it_is_a_part_of() -> None:
    whole = np.arange(10)
    assert any(thing is whole for _, thing in reachable({"part": whole[2:4]}))
    gradient = torch.ones(1)
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = gradient
    assert any(path == "net.weight.grad" for path, _ in reachable({"net": SimpleNamespace(weight=weight)}))


def test_modules_classes_and_globals_end_a_path() -> None:
    found = [thing for _, thing in reachable({"f": closing_over(np), "class": Treasure, "module": np})]
    assert not any(thing is globals() or thing is vars(np) for thing in found)


def test_circles_end() -> None:
    circle: list[object] = []
    circle.append(circle)
    assert [path for path, _ in reachable({"root": circle})] == ["root"]


def test_nothing_hidden_is_reached_from_a_task(tmp_path: Path) -> None:
    candidate = Candidate(Sound, tmp_path)
    run = candidate.run()
    trainer = run.trainers[0]
    numbering = run.numbering
    secrets = Secrets(run.dataset, run.noise, numbering, trainer.given_clean)
    train = run.dataset.splits["train"]
    loop = candidate.loop()
    loop.set_up()
    assert list(secrets.found({"task": loop.task})) == []
    # What used to be reached: the trainer that made the backbones, and by it what defines the run.
    leaks = list(secrets.found({"task": SimpleNamespace(new_backbone=trainer.set_up)}))
    assert "task.new_backbone.__self__ is the trainer, with the spec of the run" in leaks
    assert "task.new_backbone.__self__.spec is the spec of the run, with the noise ratio" in leaks
    clean = run.noise.clean(train.true)
    for thing, words in (
        (run.spec, "the spec of the run, with the noise ratio"),
        (run.dataset, "the whole dataset"),
        (run.noise, "the noise, with its ratio"),
        (numbering, "the numbering of the run, with the order of the captions in the dataset"),
        (numbering.captions.tolist(), "the order of the captions in the dataset"),
        (inverse(numbering.captions), "the order of the captions in the dataset"),
        (train.true.copy(), "the true correspondence"),
        (numbering.shown(train.true), "the true correspondence"),
        (inverse(numbering.images)[numbering.shown(train.true)], "the true correspondence"),
        (train.true.tolist(), "the true correspondence"),
        (torch.from_numpy(train.true), "the true correspondence"),
        (clean, "which pairs are clean"),
        (numbering.shown(clean), "which pairs are clean"),
        (numbering.shown_pairs(np.flatnonzero(clean)), "the numbers of the clean pairs"),
        ((~clean).astype(float), "which pairs are clean"),
        (np.flatnonzero(~clean)[::-1], "the numbers of the mismatched pairs"),
        (set(np.flatnonzero(clean).tolist()), "the numbers of the clean pairs"),
        (run.dataset.splits["dev"].images, "the dev split"),
        (run.dataset.splits["test"].captions, "the test split"),
        (run.dataset.splits["test"].images._chunks[0][3:5], "features of test"),
    ):
        assert next(secrets.found({"x": [thing]})) == f"x[0] is {words}"
    given = numbering.shown_pairs(np.flatnonzero(clean))
    assert list(Secrets(run.dataset, run.noise, numbering, given).found({"told": given})) == []
    assert isinstance(run.spec, RunSpec)


def test_another_truth_behind_the_same_claims(tmp_path: Path) -> None:
    candidate = Candidate(Sound, tmp_path)
    train = candidate.dataset.splits["train"]
    noise = draw_noise("shuffle-captions", 0.4, train, 3)
    numbering = Numbering.draw(len(train.captions), len(train.images), 1)
    clean = numbering.shown(noise.clean(train.true))
    told = np.flatnonzero(clean)[5:40]
    dataset, other = with_other_secrets(candidate.dataset, noise, numbering, told)
    true = dataset.splits["train"].true
    assert other.claimed is noise.claimed
    assert (other.ratio, noise.ratio) == (0.6, 0.4)
    others = numbering.shown(other.clean(true))
    assert others.sum() == clean.sum()
    assert (others != clean).sum() > 50
    np.testing.assert_array_equal(np.flatnonzero(others)[5:40], told)
    assert true.min() >= 0
    assert true.max() < len(train.images)
    for name in ("dev", "test"):
        before, after = (d.splits[name].images.take(np.arange(5)) for d in (candidate.dataset, dataset))
        assert not np.array_equal(before, after)


def test_swapping() -> None:
    clean = np.array([1, 0, 0, 1, 1, 0], bool)
    np.testing.assert_array_equal(swapped(clean, np.array([], int)), np.array([0, 1, 1, 0, 0, 1], bool))
    np.testing.assert_array_equal(swapped(clean, np.array([0, 3])), np.array([1, 0, 0, 1, 0, 1], bool))


def test_what_counts_as_a_vector() -> None:
    assert as_vector(["a", "b"]) is None
    assert as_vector(np.zeros((2, 2))) is None
    assert as_vector([]) is None
    assert as_vector(torch.ones(3, dtype=torch.bfloat16)) is None
    np.testing.assert_array_equal(as_vector((1, 2)), [1, 2])
    np.testing.assert_array_equal(as_vector({"a": 1, "b": 2}), [1, 2])
    np.testing.assert_array_equal(as_vector(np.array([[1], [2]])), [1, 2])
