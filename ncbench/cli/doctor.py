"""`ncbench doctor`: check the installation and the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ncbench.cli.display.output import print_json, print_table
from ncbench.cli.options import parameters

if TYPE_CHECKING:
    from ncbench.checks.doctor import Finding, State

STATES = {"ok": "ok", "problem": "PROBLEM", "absent": "-"}


@click.command()
@parameters.data_root
@click.option("--all", "everything", is_flag=True, help="List every item, also where all is well.")
@click.option(
    "--speed",
    is_flag=True,
    help="Measure the speed of --device instead, in about 20 s, for `ncbench run --dry-run --assume here`.",
)
@parameters.device
@parameters.as_json
def doctor(data_root: Path | None, everything: bool, speed: bool, device: str, as_json: bool) -> None:
    """Check the installation, devices, caches, datasets and plugins.

    Prints a line per section and the problems, with --all every item. Exits with code 1 if a problem is found.
    """
    if speed:
        _measure_speed(device, as_json)
        return
    from ncbench.checks.doctor import examine

    found = examine(data_root)
    problems = found.problems
    if as_json:
        parts = {part: [asdict(finding) for finding in findings] for part, findings in found.parts.items()}
        print_json({**parts, "problems": len(problems)})
    else:
        if not everything:
            rows = [
                (part.capitalize(), STATES[_worst(findings)], _summary(findings))
                for part, findings in found.parts.items()
            ]
            print_table("", ("section", "status", "details"), rows)
        for part, findings in found.parts.items() if everything else ():
            rows = [(finding.what, STATES[finding.state], finding.detail) for finding in findings]
            print_table(part.capitalize(), ("item", "status", "details"), rows)
        for finding in problems:
            click.echo(f"{finding.what}: {finding.detail}")
        count = {0: "no problems", 1: "1 problem"}.get(len(problems), f"{len(problems)} problems")
        click.echo(f"{count} found")
    if problems:
        raise SystemExit(1)


def _measure_speed(name: str, as_json: bool) -> None:
    """Measure a device, remember its speed, and print it; with `as_json`, as an entry of the table of devices."""
    from ncbench.runtime.device import choose_device
    from ncbench.sweeps.device_speed import measure_device
    from ncbench.sweeps.devices import store

    device = choose_device(name)

    def on_measure(words: str) -> None:
        click.echo(f"Measuring updates and scoring: {words} ...", err=True)

    found = measure_device(device, on_measure)
    path = store(found, device.type)
    if as_json:
        print_json(found.to_dict())
        return
    headings = ("backbone", "FLOPs of an update", "GFLOP/s of training", "FLOPs of a pair", "GFLOP/s of scoring")
    rows = [
        (name, f"{trained.work:.2g}", f"{trained.speed / 1e9:.3g}", f"{scored.work:.2g}", f"{scored.speed / 1e9:.3g}")
        for name in found.training
        for trained, scored in zip(found.training[name], found.scoring[name], strict=True)
    ]
    print_table(found.words, headings, rows, numbers=headings[1:])
    if found.load:
        click.echo(
            f"The load of the machine was {found.load:g} before: other processes make it look slower than it is."
        )
    click.echo(f"Remembered in {path}, for: ncbench run ... --dry-run --assume here")


def _worst(findings: Sequence[Finding]) -> State:
    return "problem" if any(finding.state == "problem" for finding in findings) else "ok"


def _summary(findings: Sequence[Finding]) -> str:
    """Return the first item that is present, the number of others, and what is absent."""
    present = [finding for finding in findings if finding.state == "ok"]
    absent = [finding.what for finding in findings if finding.state == "absent"]
    parts = []
    if present:
        more = f", and {len(present) - 1} more" if len(present) > 1 else ""
        parts.append(f"{present[0].what}: {present[0].detail}{more}")
    if absent:
        parts.append(f"absent: {', '.join(absent)}")
    return "; ".join(parts)
