"""What the benchmark of busy cores reads from the system."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from busy_cores import descendants, memory_of, processor_seconds

from ncbench.runtime.forks import CAN_FORK, Fork

pytestmark = pytest.mark.skipif(not CAN_FORK or not Path("/proc/self/smaps_rollup").exists(), reason="reads /proc")


def test_children_of_children_are_found_with_what_they_share_in_memory() -> None:
    def child(pipe: Connection) -> None:
        with Fork(grandchild) as fork:
            pipe.send((os.getpid(), fork.process, fork.pipe.recv()))
            time.sleep(60)

    def grandchild(pipe: Connection) -> None:
        held = b"x" * 2**25
        pipe.send(len(held))
        time.sleep(60)

    with Fork(child) as fork:
        ids = fork.pipe.recv()
        assert {ids[0], ids[1]} <= set(descendants(os.getpid()))
        found = memory_of(ids[1])
        fork.signal(9)
    assert 32 <= found["Private_Dirty"] < found["Pss"] < found["Rss"]
    assert memory_of(2**22 + 1) == {}


def test_the_time_of_processes_that_ended_counts() -> None:
    def work(pipe: Connection) -> None:
        since = time.process_time()
        while time.process_time() - since < 0.1:
            pass

    before = processor_seconds()
    with Fork(work):
        pass
    assert processor_seconds() - before >= 0.1
