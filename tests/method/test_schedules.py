"""Phases that end at a share of the budget, and learners that take turns."""

from __future__ import annotations

from collections.abc import Iterator

from ncbench.budget import WorkMeter
from ncbench.method.schedules import Turns, until


def test_items_come_until_their_share_of_the_budget_is_spent() -> None:
    meter, seen = WorkMeter(10), []
    for item in until(0.4, meter, range(100)):
        seen.append(item)
        meter.charge(1)
    assert seen == [0, 1, 2, 3]
    assert list(until(0.4, meter, range(3))) == []
    assert list(until(1.0, meter, range(3))) == [0, 1, 2]


def test_turns_are_lazy_and_go_on_when_one_ends() -> None:
    done: list[str] = []

    def work(name: str, count: int) -> Iterator[dict[str, float]]:
        for number in range(count):
            done.append(f"{name}{number}")
            yield {"loss": float(number)}

    for number, _ in enumerate(Turns().take(work("a", 1), work("b", 3))):
        assert len(done) == number + 1
    assert done == ["a0", "b0", "b1", "b2"]


def test_turns_go_on_with_whose_turn_it_is() -> None:
    def work(name: str, count: int) -> Iterator[dict[str, float]]:
        return iter([{name: number} for number in range(count)])

    turns, other = Turns(), Turns()
    epochs = turns.take(work("a", 3), work("b", 3))
    assert [next(epochs) for _ in range(3)] == [{"a": 0}, {"b": 0}, {"a": 1}]
    other.load_state_dict(turns.state_dict())
    assert list(other.take(work("a", 1), work("b", 2))) == [{"b": 0}, {"a": 0}, {"b": 1}]
    turns.begin()
    assert list(turns.take(work("a", 1), work("b", 1))) == [{"a": 0}, {"b": 0}]
