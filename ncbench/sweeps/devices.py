"""Devices whose speed was measured: those that come with ncbench, and this machine, measured by `doctor --speed`.

A device has a speed in FLOP/s for updates and for scoring, by backbone and size of the work: small work keeps no device
busy. Speeds are those of plain training.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ncbench.data.cache import cache_root
from ncbench.errors import UserError, brief, unknown_name
from ncbench.records.checked import checked, read_json
from ncbench.runtime.files import write_json

HERE = "here"
TABLE = Path(__file__).with_name("devices.json")
STANDS_FOR = {
    "saf": "sgr",
    "scan-i2t-lse": "scan-t2i-lse",
    "scan-i2t-mean": "scan-t2i-lse",
    "scan-t2i-mean": "scan-t2i-lse",
    "vse": "vse-infinity",
    "vse-mlp": "vse-infinity",
}
"""Backbones that are not measured, and the one whose speed is assumed for them."""

Positive = Annotated[float, Meta(gt=0, le=1e30)]


class Point(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """FLOPs of a piece of work, an update or one scored pair, and the FLOP/s that it ran at."""

    work: Positive
    speed: Positive


Points = Annotated[list[Point], Meta(min_length=1, max_length=100)]


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A measured device: what it is, how it was measured, and its speeds by backbone.

    `threads` are those of a CPU. `load` is the number of processes that were running or waiting before the measurement.
    `clock` says which time was taken: that of the wall, or of the processor, which others cannot slow down much.
    """

    name: str
    hardware: str
    threads: int | None = None
    load: float | None = None
    clock: Literal["wall", "processor"] = "wall"
    date: str
    command: str
    versions: dict[str, str]
    training: dict[str, Points]
    scoring: dict[str, Points]

    @property
    def words(self) -> str:
        """What was measured, and when, in one line."""
        threads = "" if self.threads is None else f", {self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.hardware}{threads}, measured on {self.date} with ncbench {self.versions.get('ncbench', '?')}"

    def training_speed(self, backbone: str, step: float) -> float:
        """Return the FLOP/s of training with updates of `step` FLOPs. Raises UserError for an unmeasured backbone."""
        return _speed(self._points(self.training, backbone), step)

    def scoring_speed(self, backbone: str, pair: float) -> float:
        """Return the FLOP/s of scoring with `pair` FLOPs per image and caption. Raises UserError as training_speed."""
        return _speed(self._points(self.scoring, backbone), pair)

    def _points(self, speeds: Mapping[str, Points], backbone: str) -> Points:
        try:
            return speeds[STANDS_FOR.get(backbone, backbone)]
        except KeyError:
            raise UserError(
                f"--assume {self.name}: the speed of backbone {backbone!r} was not measured; leave out --assume to "
                "measure it here"
            ) from None

    @classmethod
    def from_dict(cls, content: object) -> Device:
        """Return a device. Raises ValueError for other content, and if a measured backbone is missing."""
        found: Device = checked(content, cls)
        for what, speeds in (("training", found.training), ("scoring", found.scoring)):
            missing = set(STANDS_FOR.values()) - set(speeds)
            if missing:
                raise ValueError(f"{what} has no speed of {', '.join(sorted(missing))}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the content of an entry of the table."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return content


def _speed(points: Sequence[Point], work: float) -> float:
    """Interpolate between the measured sizes, both axes logarithmic; beyond them, take that of the nearest."""
    ordered = sorted((math.log(point.work), math.log(point.speed)) for point in points)
    at = math.log(max(work, 1.0))
    if at <= ordered[0][0]:
        return math.exp(ordered[0][1])
    for (before, slow), (after, fast) in itertools.pairwise(ordered):
        if at <= after:
            return math.exp(slow + (fast - slow) * (at - before) / (after - before))
    return math.exp(ordered[-1][1])


def measured_devices() -> dict[str, Device]:
    """Return the devices that come with ncbench, by name."""
    devices = [Device.from_dict(entry) for entry in read_json(TABLE)]
    return {device.name: device for device in devices}


def check_device(name: str) -> None:
    """Raise UserError unless `name` is `here` or the name of a measured device."""
    known = [HERE, *measured_devices()]
    if name not in known:
        raise unknown_name("device for --assume", name, known)


def device_named(name: str, kind: str) -> Device:
    """Return a measured device; `here` is this machine's `kind`: cpu, cuda or mps. Raises UserError."""
    check_device(name)
    return _stored(kind) if name == HERE else measured_devices()[name]


def store(device: Device, kind: str) -> Path:
    """Remember the speed of this machine's `kind`, and return the file. Raises UserError if it cannot be written."""
    path = _path(kind)
    try:
        write_json(path, device.to_dict())
    except OSError as error:
        raise UserError(
            f"cannot write to the cache folder {path.parent}: {error.strerror}; set NCBENCH_CACHE to another folder"
        ) from error
    return path


def _stored(kind: str) -> Device:
    path = _path(kind)
    command = f"ncbench doctor --speed --device {kind}"
    if not path.exists():
        raise UserError(f"--assume {HERE}: the speed of this machine's {kind} is not known; run: {command}")
    try:
        return Device.from_dict(read_json(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a measured speed ({brief(error)}); run: {command}") from error


def _path(kind: str) -> Path:
    return cache_root() / "speed" / f"{kind}.json"
