"""A Slurm cluster of one node on loopback, in a folder of its own, for as long as a test needs it.

Runs as root in a plain container: no systemd, no cgroups, no accounting. Its three daemons have their own ports and
folders, and are ended by their process ids, as are the jobs that are left.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SLOTS = 2
PATIENCE = 60.0
COMMANDS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")

CONFIG = """\
ClusterName=ncbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=0
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=30
MinJobAge=300
JobRequeue=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={slots} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def why_not() -> str:
    """Return why there can be no cluster here; "" where there can."""
    missing = [name for name in COMMANDS if shutil.which(name) is None and not Path("/usr/sbin", name).exists()]
    if missing:
        return f"no {', '.join(missing)} here (Debian: apt-get install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "a cluster of its own needs root"
    with suppress(KeyError):
        pwd.getpwnam("munge")
        return ""
    return "munged needs a user called munge"


class Cluster:
    """A running cluster, and the variables under which Slurm's commands speak to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def call(self, *words: str) -> str:
        """Return what a command of Slurm prints."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def start(self) -> None:
        """Start the daemons, and wait until the node takes jobs."""
        for name in ("munge", "state", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # Slurm's daemons and munged refuse folders that others may write.
        munge, user = self.folder / "munge", pwd.getpwnam("munge")
        munge.chmod(0o755)
        key = munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for path in (munge, key):
            os.chown(path, user.pw_uid, user.pw_gid)
        ports = free_ports(2)
        facts = {"host": socket.gethostname(), "controller": ports[0], "node": ports[1], "slots": SLOTS}
        (self.folder / "slurm.conf").write_text(CONFIG.format(folder=self.folder, **facts))
        files = ("--socket", "socket"), ("--pid-file", "pid"), ("--log-file", "log"), ("--seed-file", "seed")
        words = [f"{option}={munge / name}" for option, name in (*files, ("--key-file", "key"))]
        self._begin("munged", "--foreground", *words, user=user)
        self._wait((munge / "socket").exists, "munged")
        self._begin("slurmctld", "-D", "-f", self.environment["SLURM_CONF"])
        self._begin("slurmd", "-D", "-f", self.environment["SLURM_CONF"], "-N", str(facts["host"]))
        self._wait(lambda: self.node_state() == "idle", "the node")

    def node_state(self) -> str:
        """Return Slurm's word for the state of the node."""
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        return done.stdout.strip()

    def stop(self) -> None:
        """Cancel what is left, and end the daemons."""
        with suppress(AssertionError, subprocess.SubprocessError):
            self.call("scancel", "--full", "--signal=KILL", "--user=root")
            self.call("scancel", "--user=root")
            self._wait(lambda: not self.call("squeue", "--noheader").strip(), "the queue")
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(PATIENCE / 4)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _begin(self, name: str, *words: str, user: pwd.struct_passwd | None = None) -> None:
        path = shutil.which(name) or f"/usr/sbin/{name}"
        given = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        with (self.folder / f"{name}.out").open("wb") as out:
            self._daemons.append(
                subprocess.Popen([path, *words], env=self.environment, stdout=out, stderr=out, **given)  # type: ignore[call-overload]
            )

    def _wait(self, ready: object, what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not ready():  # type: ignore[operator]
            if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in self._daemons):
                logs = "\n".join(f"{log}:\n{log.read_text()[-2000:]}" for log in self.folder.glob("*.[lo][ou][gt]"))
                raise RuntimeError(f"waited in vain for {what}\n{logs}")
            time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    found = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in found]
    for server in found:
        server.close()
    return ports


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Give a cluster in `folder` for as long as the block lasts."""
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
