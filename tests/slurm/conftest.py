"""A Slurm cluster for the tests in this folder, which are skipped if Slurm is not installed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, running, why_not


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Yield a cluster with two slots."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    # Not in pytest's temporary folder, which the user of munged cannot access.
    with tempfile.TemporaryDirectory(prefix="ncbench-slurm-") as folder:
        Path(folder).chmod(0o755)
        with running(Path(folder)) as found:
            yield found
