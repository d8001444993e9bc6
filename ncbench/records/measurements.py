"""`measurements.json`: what differs between executions of one spec: times, memory, machine, software."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, field

from ncbench.evaluation.beliefs import Count
from ncbench.records.checked import checked
from ncbench.records.spec import SCHEMA

Time: TypeAlias = Annotated[float, Meta(ge=0)]


class Seconds(msgspec.Struct, frozen=True):
    """Seconds by what they were spent on."""

    training: Time
    evaluation: Time
    checkpoints: Time = 0.0

    @property
    def total(self) -> float:
        """The sum."""
        return self.training + self.evaluation + self.checkpoints


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Software, machine and command line of an execution. `device` is the name of a GPU, or `cpu`."""

    ncbench: str = ""
    python: str = ""
    packages: dict[str, str] = {}
    platform: str = ""
    processor: str = ""
    cores: Count | None = None
    threads: Count | None = None
    device: str = ""
    cuda: str | None = None
    driver: str | None = None
    command: list[str] = []
    commit: str | None = None


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """What torch counted in the `updates` that were watched: FLOPs `charged` and `counted`.

    `most` is how many times the charged FLOPs torch may count.
    """

    updates: Annotated[int, Meta(ge=0)] = 0
    charged: Annotated[int, Meta(ge=0)] = 0
    counted: Annotated[int, Meta(ge=0)] = 0
    most: Time = 0.0

    def __add__(self, other: Audited) -> Audited:
        """Return both together."""
        return Audited(
            updates=self.updates + other.updates,
            charged=self.charged + other.charged,
            counted=self.counted + other.counted,
            most=max(self.most, other.most),
        )


class Measurements(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured while a run was executed.

    `started` is in seconds since the epoch, `overhead` the seconds of training outside of backbones by what they were
    spent on, `peak_bytes` the peak of memory by device, `audited` the second count of work, `resumed_at` the share of
    the budget at which the last process took over from a checkpoint. None means: not measured, or not resumed.
    """

    seconds: Seconds
    started: Time | None = None
    overhead: dict[str, Time] | None = field(default=None, name="outside")
    peak_bytes: dict[str, Count | None] = {}
    audited: Audited | None = None
    resumed_at: Annotated[float, Meta(ge=0, le=1)] | None = None
    environment: Environment = Environment()
    schema: int = SCHEMA

    @property
    def overhead_share(self) -> float | None:
        """Share of the training time outside of backbones; None if it was not measured."""
        if self.overhead is None or not self.seconds.training:
            return None
        return sum(self.overhead.values()) / self.seconds.training

    @property
    def peak(self) -> int | None:
        """The highest peak of any device, in bytes; None if none was measured."""
        return max((peak for peak in self.peak_bytes.values() if peak is not None), default=None)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Measurements:
        """Return the measurements in the content of `measurements.json`. Raises ValueError for other content."""
        found: Measurements = checked(content, cls)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `measurements.json`."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return content
