"""Shell completion of names, settings, sweeps and runs. It runs no plugin file and imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from ncbench.errors import UserError
from ncbench.plugins.source_files import is_path

PATH_STARTS = (".", "/", "~")


def _methods() -> list[str]:
    from ncbench.method.registry import method_names

    return method_names()


def _datasets() -> list[str]:
    from ncbench.data.registry import dataset_names

    return dataset_names()


def _protocols() -> list[str]:
    from ncbench.noise.registry import protocol_names

    return protocol_names()


def _backbones() -> list[str]:
    from ncbench.backbones.registry import SHORT_NAMES, backbone_names

    return sorted([*backbone_names(), *SHORT_NAMES])


NAMES_BY_PARAMETER: dict[str, Callable[[], list[str]]] = {
    "methods": _methods,
    "datasets": _datasets,
    "protocols": _protocols,
    "backbones": _backbones,
}
"""The known names for each parameter that takes names."""


def complete_names(parameter: str, incomplete: str) -> list[CompletionItem]:
    """Return the completions of `incomplete`: a name or a file, or a comma-separated list of names."""
    before, comma, prefix = incomplete.rpartition(",")
    if not comma and prefix.startswith(PATH_STARTS) and parameter in NAMES_BY_PARAMETER:
        return [CompletionItem(incomplete, type="file")]
    try:
        names = NAMES_BY_PARAMETER[parameter]() if parameter in NAMES_BY_PARAMETER else []
    except UserError:  # reported when the command runs
        names = []
    return [CompletionItem(before + comma + name) for name in names if name.startswith(prefix)]


def complete_settings(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the settings, `NAME.KEY=`, that complete `incomplete`, of the methods of the command line or of all.

    After the `=`, return the values of settings that have a few.
    """
    from ncbench.method.setting_names import setting_names
    from ncbench.method.settings import BACKBONE

    name, equals, value = incomplete.partition("=")
    target, dot, key = name.partition(".")
    if equals:
        values = setting_names(target).get(key, []) if dot else []
        return [CompletionItem(f"{name}={each}") for each in values if each.startswith(value)]
    try:
        methods = ctx.params.get("methods") or ctx.params.get("name") or _methods()
    except UserError:
        methods = []
    targets = [*([methods] if isinstance(methods, str) else methods), BACKBONE]
    found = [f"{Path(each).stem if is_path(each) else each}.{key}=" for each in targets for key in setting_names(each)]
    return [CompletionItem(each) for each in found if each.startswith(incomplete)]


def complete_sweeps(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the ids of sweeps in the folder of records."""
    plans = (Path(ctx.params.get("folder") or "runs") / "sweeps").glob("*/plan.json")
    return [CompletionItem(name) for name in sorted(path.parent.name for path in plans) if name.startswith(incomplete)]


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the ids of runs in the folder of records, or paths."""
    from ncbench.records.store import Store

    if incomplete.startswith(PATH_STARTS) or "/" in incomplete:
        return [CompletionItem(incomplete, type="dir")]
    try:
        names = [path.name for path in Store(Path(ctx.params.get("folder") or "runs")).folders()]
    except UserError:
        names = []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class Name(click.ParamType[str]):
    """A single name; `parameter` is a key of NAMES_BY_PARAMETER."""

    name = "text"

    def __init__(self, parameter: str) -> None:
        self.parameter = parameter

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name unchanged; the command checks it."""
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that complete `incomplete`."""
        return complete_names(self.parameter, incomplete)
