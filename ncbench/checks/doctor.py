"""The checks of `ncbench doctor`: software, devices, environment variables, caches, datasets and plugins."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from pathlib import Path
from typing import Literal, TypeAlias

from packaging.requirements import Requirement

from ncbench import __version__
from ncbench.backbones import registry as backbone_registry
from ncbench.data import registry as data_registry
from ncbench.data.cache import cache_root
from ncbench.data.dataset import DatasetSource, SplitSource
from ncbench.errors import UserError
from ncbench.method.registry import KIND, load_method
from ncbench.noise import registry as noise_registry
from ncbench.plugins.discovery import plugin_names
from ncbench.plugins.source_files import VARIABLE, Kind, find_files
from ncbench.runtime import environment, memory

State: TypeAlias = Literal["ok", "problem", "absent"]
VARIABLES = (VARIABLE, "NCBENCH_CACHE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
KINDS: dict[Kind, Callable[[str], object]] = {
    KIND: load_method,
    backbone_registry.KIND: backbone_registry.load_backbone,
    data_registry.KIND: data_registry.dataset_source,
    noise_registry.KIND: noise_registry.load_protocol,
}


@dataclass(frozen=True)
class Finding:
    """One item, its state and details."""

    what: str
    state: State
    detail: str


@dataclass
class Examination:
    """All findings by section."""

    parts: dict[str, list[Finding]] = field(default_factory=dict)

    @property
    def problems(self) -> list[Finding]:
        """The findings that need fixing."""
        return [finding for part in self.parts.values() for finding in part if finding.state == "problem"]


def examine(data_root: Path | None = None) -> Examination:
    """Check everything. Released datasets are looked for in `data_root`."""
    return Examination(
        {
            "software": list(_software()),
            "devices": list(_devices()),
            "environment": [
                Finding(name, "ok" if name in os.environ else "absent", os.environ.get(name, "not set"))
                for name in VARIABLES
            ],
            "caches": list(_caches()),
            "datasets": list(_datasets(data_root)),
            "plugins": list(_plugins()),
        }
    )


def _software() -> Iterator[Finding]:
    commit = environment.commit()
    yield Finding("ncbench", "ok", f"{__version__}{f', commit {commit}' if commit else ''}")
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    needed = [Requirement(text) for text in requires("ncbench") or []]
    for requirement in sorted(needed, key=lambda requirement: requirement.name.lower()):
        # Skip requirements of extras and of other Python versions.
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _package(requirement)


def _package(requirement: Requirement) -> Finding:
    wanted = f"ncbench requires {requirement.name}{requirement.specifier}"
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return Finding(requirement.name, "problem", f"not installed; {wanted}")
    if not requirement.specifier.contains(found, prereleases=True):
        return Finding(requirement.name, "problem", f"version {found}; {wanted}")
    return Finding(requirement.name, "ok", found)


def _devices() -> Iterator[Finding]:
    import torch

    free = memory.available_bytes() / 2**30
    yield Finding("cpu", "ok", f"{environment.processor()}, {os.cpu_count()} cores, {free:.1f} GiB of free memory")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(number)
            yield Finding(f"cuda:{number}", "ok", f"{facts.name}, {facts.total_memory / 2**30:.1f} GiB")
    else:
        build = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        yield Finding("cuda", "absent", f"not available; {build}")
    if torch.backends.mps.is_available():
        yield Finding("mps", "ok", "Apple GPU")


def _caches() -> Iterator[Finding]:
    root = cache_root()
    if not root.is_dir():
        yield Finding(str(root), "absent", "does not exist yet; created with the first dataset")
        return
    free = shutil.disk_usage(root).free
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        yield Finding(str(folder), "ok", _readable_size(size_of(folder)))
    writable = os.access(root, os.W_OK)
    detail = f"{_readable_size(size_of(root))} in all, {_readable_size(free)} free disk space"
    yield Finding(str(root), "ok" if writable else "problem", detail if writable else "not writable; set NCBENCH_CACHE")


def size_of(folder: Path) -> int:
    """Return the total size of the files in a folder in bytes; files deleted in the meantime are ignored."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def _readable_size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _datasets(root: Path | None) -> Iterator[Finding]:
    for name in plugin_names(data_registry.GROUP):
        try:
            source = data_registry.dataset_source(name, run_found=False)
        except UserError:
            continue  # reported with the plugins
        yield _dataset(source, root)


def _dataset(source: DatasetSource, root: Path | None) -> Finding:
    if not source.needs_root:
        return Finding(source.name, "ok", f"no files needed: {source.summary}")
    if root is None:
        return Finding(source.name, "absent", "needs files; pass their folder with --data-root")
    try:
        dataset = source.load_split(root, "dev") if isinstance(source, SplitSource) else source.load(root)
    except UserError as error:
        return Finding(source.name, "absent", str(error))
    return Finding(source.name, "ok", f"found in {root}, {len(dataset.splits['dev'].images):,} dev images")


def _plugins() -> Iterator[Finding]:
    try:
        find_files(KIND)
    except UserError as error:
        yield Finding(VARIABLE, "problem", str(error))
        return  # no plugin can be loaded until this is fixed
    for kind, load in KINDS.items():
        for name in plugin_names(kind.group):
            try:
                load(name)
                yield Finding(f"{kind.noun} {name}", "ok", _package_of(kind, name))
            except UserError as error:
                yield Finding(f"{kind.noun} {name}", "problem", str(error))
        for file in find_files(kind):  # never run here
            name = f"{kind.noun} {file.name}"
            problem = f"{kind.noun} file {file.path} cannot be parsed: {file.error}"
            yield Finding(name, "problem", problem) if file.error else Finding(name, "ok", str(file.path))


def _package_of(kind: Kind, name: str) -> str:
    """Return the package that registers a plugin, with its version."""
    for entry in entry_points(group=kind.group, name=name):
        if entry.dist is not None:
            return f"{entry.dist.name} {entry.dist.version}"
    return "unknown"
