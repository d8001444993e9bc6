"""Parsing of --slurm options (`partition=gpu,time=2h` or a TOML file) into submitit parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ncbench.errors import UserError, unknown_name
from ncbench.runtime.files import read_toml

DEFAULT_MINUTES = 240  # per allocation; longer runs resume in the next one
ALIASES = {"gpus": "gpus_per_node", "cpus": "cpus_per_task", "name": "job_name", "signal_delay": "signal_delay_s"}
TEXT_OPTIONS = (
    *("partition", "account", "qos", "constraint", "gres", "nodelist", "exclude", "comment", "mail_type", "mail_user"),
    *("job_name", "mem", "mem_per_cpu", "mem_per_gpu", "wckey", "gpus_per_node", "gpus_per_task"),
)
INTEGER_OPTIONS = ("cpus_per_task", "cpus_per_gpu", "signal_delay_s")
SBATCH = "sbatch"  # prefix or TOML table for any other sbatch option, such as sbatch.licenses=matlab
OTHER_OPTIONS = ("time", "exclusive", "setup", "teardown", "python")
_UNITS = {"s": 1 / 60, "m": 1, "h": 60, "d": 1440}
_TIME = re.compile(r"(?P<amount>\d+(\.\d+)?)\s*(?P<unit>[smhd]?)")
_CLOCK = re.compile(r"((?P<days>\d+)-)?(?P<rest>\d+(:\d+){0,2})")


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """Return the options in `texts`, each `key=value,...` or the path of a TOML file; later ones take precedence.

    A comma that is not followed by a key belongs to the value: `nodelist=a,b`. Raises UserError.
    """
    options: dict[str, Any] = {}
    for text in texts:
        if text.endswith(".toml"):
            options |= flattened(read_toml(Path(text), "--slurm"))
            continue
        for piece in re.split(r",(?=\s*[\w.-]+\s*=)", text):
            key, equals, value = (part.strip() for part in piece.partition("="))
            if not (key and equals and value):
                raise UserError(
                    f"--slurm {text!r}: {piece!r} is not key=value. Use partition=gpu,time=2h,gpus=1 or the path of a "
                    ".toml file."
                )
            options[key] = value
    return options


def flattened(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return `content` with the keys of its table `sbatch` as `sbatch.<name>`."""
    extra = content.get(SBATCH)
    if not isinstance(extra, Mapping):
        return dict(content)
    rest = {key: value for key, value in content.items() if key != SBATCH}
    return rest | {f"{SBATCH}.{key}": value for key, value in extra.items()}


def submitit_parameters(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return submitit executor parameters for the user's options. Raises UserError, naming the option."""
    found: dict[str, Any] = {"time": DEFAULT_MINUTES, "job_name": "ncbench"}
    extra: dict[str, Any] = {"requeue": True}
    for key, value in options.items():
        name = ALIASES.get(key, key)
        if key.startswith(f"{SBATCH}."):
            extra[key.removeprefix(f"{SBATCH}.")] = _plain(key, value)
        elif name == "time":
            found["time"] = minutes(value)
        elif name in INTEGER_OPTIONS:
            found[name] = _positive_int(key, value)
        elif name in ("setup", "teardown"):
            found[name] = _lines(key, value)
        elif name == "exclusive":
            found[name] = value in (True, "true")
        elif name in TEXT_OPTIONS:
            found[name] = str(_plain(key, value))
        elif name != "python":  # an argument of the executor itself
            known = [*ALIASES, *TEXT_OPTIONS, *INTEGER_OPTIONS, *OTHER_OPTIONS, f"{SBATCH}.NAME"]
            raise unknown_name("--slurm option", key, known)
    return {**found, "additional_parameters": extra}


def minutes(value: object) -> int:
    """Parse `90`, `90m`, `2h`, `1d` or Slurm's `1-12:00:00`; return minutes, at least 1. Raises UserError."""
    text = str(value).strip().lower()
    if found := _TIME.fullmatch(text):
        amount = float(found["amount"]) * _UNITS[found["unit"] or "m"]
    elif found := _CLOCK.fullmatch(text):
        parts = [float(part) for part in found["rest"].split(":")]
        # As in sbatch: the first part is hours after days, and if there are three parts.
        scales = (60, 1, 1 / 60) if found["days"] or len(parts) == 3 else (1, 1 / 60)
        amount = int(found["days"] or 0) * 1440 + sum(p * s for p, s in zip(parts, scales, strict=False))
    else:
        raise UserError(f"--slurm time={value}: not a valid time. Use 90m, 2h, 1d or 1-12:00:00.")
    if amount <= 0:
        raise UserError(f"--slurm time={value}: must be positive")
    return max(1, round(amount))


def _plain(key: str, value: object) -> object:
    if isinstance(value, str | int | float):
        return value
    raise UserError(f"--slurm {key}: expected a string or a number, found {value!r}")


def _positive_int(key: str, value: object) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if number <= 0:
        raise UserError(f"--slurm {key}={value}: must be a positive integer")
    return number


def _lines(key: str, value: object) -> list[str]:
    lines = [value] if isinstance(value, str) else value
    if isinstance(lines, list) and all(isinstance(line, str) for line in lines):
        return lines
    raise UserError(f"--slurm {key}: expected a list of shell commands, found {value!r}")
