"""What users say about Slurm, `partition=gpu,time=2h` or a TOML file, as the parameters of submitit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ncbench.errors import UserError, unknown_name
from ncbench.runtime.files import read_toml

TIME = 240  # minutes of an allocation; a run that needs longer goes on in the next
SHORT = {"gpus": "gpus_per_node", "cpus": "cpus_per_task", "name": "job_name", "signal_delay": "signal_delay_s"}
TEXTS = (
    *("partition", "account", "qos", "constraint", "gres", "nodelist", "exclude", "comment", "mail_type", "mail_user"),
    *("job_name", "mem", "mem_per_cpu", "mem_per_gpu", "wckey", "gpus_per_node", "gpus_per_task"),
)
NUMBERS = ("cpus_per_task", "cpus_per_gpu", "signal_delay_s")
SBATCH = "sbatch"  # any other option of sbatch, as sbatch.licenses=matlab or a table of this name
OTHERS = ("time", "exclusive", "setup", "teardown", "python")
_UNITS = {"s": 1 / 60, "m": 1, "h": 60, "d": 1440}
_TIME = re.compile(r"(?P<amount>\d+(\.\d+)?)\s*(?P<unit>[smhd]?)")
_CLOCK = re.compile(r"((?P<days>\d+)-)?(?P<rest>\d+(:\d+){0,2})")


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """Return the options in `texts`, each `key=value,...` or the path of a TOML file; later ones win.

    A comma that no key follows belongs to the value: `nodelist=a,b`. Raises UserError.
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
                    f"--slurm {text!r}: {piece!r} is not key=value; write partition=gpu,time=2h,gpus=1 or the path of "
                    "a .toml file."
                )
            options[key] = value
    return options


def flattened(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return `content` without its table `sbatch`, whose keys come as `sbatch.<name>`."""
    extra = content.get(SBATCH)
    if not isinstance(extra, Mapping):
        return dict(content)
    rest = {key: value for key, value in content.items() if key != SBATCH}
    return rest | {f"{SBATCH}.{key}": value for key, value in extra.items()}


def submitit_parameters(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of submitit's executor for the options of a user. Raises UserError, naming the option."""
    found: dict[str, Any] = {"time": TIME, "job_name": "ncbench"}
    extra: dict[str, Any] = {"requeue": True}
    for key, value in options.items():
        name = SHORT.get(key, key)
        if key.startswith(f"{SBATCH}."):
            extra[key.removeprefix(f"{SBATCH}.")] = _plain(key, value)
        elif name == "time":
            found["time"] = minutes(value)
        elif name in NUMBERS:
            found[name] = _whole(key, value)
        elif name in ("setup", "teardown"):
            found[name] = _lines(key, value)
        elif name == "exclusive":
            found[name] = value in (True, "true")
        elif name in TEXTS:
            found[name] = str(_plain(key, value))
        elif name != "python":  # of the executor itself
            raise unknown_name("option of --slurm", key, [*SHORT, *TEXTS, *NUMBERS, *OTHERS, f"{SBATCH}.NAME"])
    return {**found, "additional_parameters": extra}


def minutes(value: object) -> int:
    """Return the minutes, at least 1, in `90`, `90m`, `2h`, `1d` or Slurm's own `1-12:00:00`. Raises UserError."""
    text = str(value).strip().lower()
    if found := _TIME.fullmatch(text):
        amount = float(found["amount"]) * _UNITS[found["unit"] or "m"]
    elif found := _CLOCK.fullmatch(text):
        parts = [float(part) for part in found["rest"].split(":")]
        # As sbatch reads it: hours come first after days, and where there are three.
        scales = (60, 1, 1 / 60) if found["days"] or len(parts) == 3 else (1, 1 / 60)
        amount = int(found["days"] or 0) * 1440 + sum(p * s for p, s in zip(parts, scales, strict=False))
    else:
        raise UserError(f"--slurm time={value}: is no time; write 90m, 2h, 1d or 1-12:00:00.")
    if amount <= 0:
        raise UserError(f"--slurm time={value}: must be above 0.")
    return max(1, round(amount))


def _plain(key: str, value: object) -> object:
    if isinstance(value, str | int | float):
        return value
    raise UserError(f"--slurm {key}: must be text or a number, found {value!r}.")


def _whole(key: str, value: object) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if number <= 0:
        raise UserError(f"--slurm {key}={value}: must be a whole number above 0.")
    return number


def _lines(key: str, value: object) -> list[str]:
    lines = [value] if isinstance(value, str) else value
    if isinstance(lines, list) and all(isinstance(line, str) for line in lines):
        return lines
    raise UserError(f"--slurm {key}: must be a list of shell commands, found {value!r}.")
