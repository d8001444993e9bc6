"""A cluster for the tests of this folder, which skip where there can be none."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, running, why_not


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Give a cluster of two slots."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    # Not in a folder of pytest's, which munged, another user, may not enter.
    with tempfile.TemporaryDirectory(prefix="ncbench-slurm-") as folder:
        Path(folder).chmod(0o755)
        with running(Path(folder)) as found:
            yield found
