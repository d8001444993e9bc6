"""The answer of a leaderboard: which method to use at which noise, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ncbench.noise.ratio import NATURAL
from ncbench.report.tables.bootstrap import Difference
from ncbench.report.tables.comparisons import Comparison, conditions_in_words
from ncbench.report.tables.overview import Overview

COLUMNS = ("noise", "best", "rSum", "is that sure?", "lead over the next (95 % interval)")
NUMBERS = ("rSum",)
MOST_NAMES = 3  # in a cell; more are counted


@dataclass(frozen=True)
class Answer:
    """The best method of a comparison, whose `noise` is in words; `where` begins a sentence with it.

    `level` are the methods that cannot be told apart from it, `next_best` the second by mean rSum and `lead` the
    difference to it, both None if there is no other or it was not tested. `seeds` is the smallest number of seeds,
    `single` the methods that have one while the best has more.
    """

    noise: str
    where: str
    best: str
    rsum: str
    level: Sequence[str]
    next_best: str | None
    lead: Difference | None
    seeds: int
    tested: bool
    single: Sequence[str] = ()

    @property
    def sure(self) -> bool:
        """Whether the best method is significantly better than every other, over several seeds."""
        return self.tested and not self.level and self.seeds > 1

    @property
    def verdict(self) -> str:
        """How sure the answer is, in words."""
        if self.next_best is None:
            return "no other method"
        if not self.tested:
            return "not tested: no ranks of single queries"
        if self.level:
            return f"no: {listed(self.level)} may be as good"
        if self.seeds > 1:
            return "yes"
        return f"not over seeds: {self._single_in_words} one" if self.single else "not over seeds: there is one"

    @property
    def _single_in_words(self) -> str:
        return f"{listed(self.single)} {'has' if len(self.single) == 1 else 'have'}"

    def cells(self) -> list[str]:
        """Return the row as text, in the order of COLUMNS."""
        lead = "-"
        if self.lead is not None:
            lead = f"{self.lead.mean:+.1f} over {self.next_best} ({self.lead.low:+.1f} to {self.lead.high:+.1f})"
        return [self.noise, self.best, self.rsum, self.verdict, lead]

    def sentence(self) -> str:
        """Return the answer as a sentence."""
        start = f"{self.where}, use {self.best} (rSum {self.rsum})"
        if self.next_best is None:
            return f"{start}; no other method was run."
        if not self.tested:
            return f"{start}; whether its lead is more than chance was not tested."
        if self.level:
            return f"{start}, but that is not sure: {listed(self.level)} may be as good."
        if self.seeds == 1:
            why = f"{self._single_in_words} only one seed" if self.single else "there is only one seed"
            return f"{start}; it leads on these test queries, but {why}."
        return f"{start}; it is significantly better than all others."


def answers(tables: Sequence[Comparison]) -> list[Answer]:
    """Return the answer of each comparison with contestants, in order. Conditions are named where they differ.

    Self-reported runs give no answer: nobody counted what they cost.
    """
    contested = contested_of(tables)
    several = len({conditions_in_words(table.key) for table in contested}) > 1
    return [_answer(table, several) for table in contested]


def contested_of(tables: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons that answers are taken from, in order."""
    return [table for table in tables if table.contestants and not table.self_reported]


def listed(names: Sequence[str]) -> str:
    """Return names as an enumeration; many are counted."""
    if len(names) > MOST_NAMES:
        return f"{', '.join(names[: MOST_NAMES - 1])} and {len(names) - MOST_NAMES + 1} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def summary(tables: Sequence[Comparison], overviews: Sequence[Overview]) -> str:
    """Return the answer of a whole board: at the ratio that most papers report, and on average over ratios."""
    found = answers(tables)
    if not found:
        kind = "self-reported runs are here" if any(table.contestants for table in tables) else "references were run"
        return f"Only {kind}: there is nothing to choose from."
    said = [found[_middle(contested_of(tables))].sentence()]
    protocols = [overview.filters.get("protocol") for overview in overviews]
    for overview in sorted(overviews, key=lambda one: -len(one.ratios)):
        average = overview.average.drop(list(overview.references), errors="ignore").dropna()
        if len(average) > 1 and not overview.self_reported:
            best, second = average.index[0], average.index[1]
            lead = average.iloc[0] - average.iloc[1]
            protocol = overview.filters.get("protocol")
            where = protocol if protocol and protocols.count(protocol) == 1 else overview.title
            said.append(
                f"On average over the ratios of {where}, {best} leads with {average.iloc[0]:.1f}, "
                f"{lead:.1f} before {second}."
            )
            break
    return " ".join(said)


def _middle(tables: Sequence[Comparison]) -> int:
    """Return the number of the comparison nearest to a ratio of 0.4, in the largest group of ratios."""

    def order(number: int) -> tuple[float, ...]:
        key = tables[number].key
        ratio = float(key["noise"])
        alike = sum(table.key["protocol"] == key["protocol"] for table in tables)
        return abs(ratio - 0.4) if ratio else 1.0, -alike, -len(tables[number].contestants), -len(tables[number].runs)

    return min(range(len(tables)), key=order)


def _answer(table: Comparison, several: bool) -> Answer:
    best, *others = table.contestants
    row = table.rows.iloc[0]
    tested = bool(others) and all(table.difference(best, other) is not None for other in others)
    differences = {other: table.difference(best, other) for other in others}
    level = [name for name, found in differences.items() if found is not None and not found.significant]
    lead = differences[others[0]] if others else None
    (rsum,) = table.cells(("rsum",))[0]
    first = table.rows[~table.rows["sees_truth"]]
    return Answer(
        noise=f"{table.noise}, {conditions_in_words(table.key)}" if several else table.noise,
        where=_where(table, several),
        best=best,
        rsum=rsum,
        level=level if tested else [],
        next_best=others[0] if others else None,
        lead=lead,
        seeds=int(min(row["seeds"], first["seeds"].min())),
        tested=tested,
        single=[str(name) for name in first.loc[first["seeds"] == 1, "variant"]] if row["seeds"] > 1 else [],
    )


def _where(table: Comparison, several: bool) -> str:
    protocol, ratio = table.key["protocol"], float(table.key["noise"])
    under = f", {conditions_in_words(table.key)}" if several else ""
    if protocol == NATURAL:
        return f"Under natural noise{under}"
    return f"At {ratio:.0%} noise ({protocol}{under})" if ratio else f"On clean pairs{under}"
