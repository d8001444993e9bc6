"""What a method can reach from where it runs, and what it is refused."""

from __future__ import annotations

import _thread
import gc
import glob
import inspect
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ncbench import Method
from ncbench.budget import BudgetSpent, WorkMeter
from ncbench.checks.method.reach import reachable
from ncbench.checks.shapes import Shapes
from ncbench.data.registry import load_dataset
from ncbench.noise.registry import draw_noise
from ncbench.runtime import guard
from ncbench.runtime.environment import command
from ncbench.runtime.guard import Refused
from ncbench.training.seclusion import MeterLine, Secluded

SPLIT = Shapes().load().splits["train"]


class Still(Method):
    """Does nothing."""

    name = "still"

    def setup(self, task: Any) -> None: ...

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        for number in range(3):
            yield {"loss": float(number), "thread": threading.get_ident()}


@pytest.fixture
def secluded() -> Secluded:
    return Secluded(Still(None))


def test_every_update_is_made_in_one_other_thread(secluded: Secluded) -> None:
    updates = list(secluded.train_epoch(0))
    assert [update["loss"] for update in updates] == [0, 1, 2]
    assert len({update["thread"] for update in updates}) == 1
    assert updates[0]["thread"] == secluded.call(threading.get_ident) != threading.get_ident()


def test_frames_end_in_the_thread(secluded: Secluded) -> None:
    secret = np.arange(3)
    frames = secluded.call(inspect.stack)
    held = [value for info in frames for value in info.frame.f_locals.values()]
    assert not any(value is secret or value is secluded for value in held)
    assert len(frames) <= 3


def test_the_thread_computes_like_the_one_that_calls(secluded: Secluded) -> None:
    tiny = torch.tensor([1e-40])
    torch.set_flush_denormal(True)
    try:
        assert secluded.call(lambda: float(tiny * 1)) == 0
    finally:
        torch.set_flush_denormal(False)
    assert secluded.call(torch.get_num_threads) == torch.get_num_threads()


def list_folder(place: Path) -> object:
    return glob.glob(f"{place}/*")  # noqa: PTH207 - as a method might


REFUSED: dict[str, Callable[[Path], object]] = {
    "look at the objects of the process .gc.get_objects": lambda _: gc.get_objects(),
    "look at the objects of the process .gc.get_referrers": lambda place: gc.get_referrers(place),
    "look at the objects of the process .gc.get_referents": lambda place: gc.get_referents(place),
    "look at the objects of the process .sys._current_frames": lambda _: sys._current_frames(),
    "load a dataset": lambda _: load_dataset("scenes", None),
    "load a dataset$": lambda _: Shapes().load(),
    "draw noise": lambda _: draw_noise("shuffle-images", 0.4, SPLIT, 0),
    "read .*secret.txt: it is below ": lambda place: (place / "secret.txt").read_text(),
    "read .*secret.txt": lambda place: os.open(place / "secret.txt", os.O_RDONLY),
    "read .*folder: it is below ": lambda place: os.listdir(place),  # noqa: PTH208
    "read .*: it is below ": list_folder,
    "read .*link": lambda place: (place.parent / "link").read_text(),
    "read /proc/self/cmdline": lambda _: Path("/proc/self/cmdline").read_bytes(),
    "read /proc/.*/environ": lambda _: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "read the command line": lambda _: command(),
    "start a process .subprocess.Popen": lambda _: subprocess.run(["true"], check=True),
    "start a process .os.fork": lambda _: os.fork(),
    "start a process .os.system": lambda _: os.system("true"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="places are those of Linux")
@pytest.mark.parametrize("words", REFUSED)
def test_what_a_method_may_not_do(
    words: str, secluded: Secluded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_closed", set())
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "secret.txt").write_text("x")
    (folder / "code.py").write_text("x = 1")
    (tmp_path / "open.txt").write_text("y")
    (tmp_path / "link").symlink_to(folder / "secret.txt")
    guard.close_places([folder])
    with pytest.raises(Refused, match=f"^a method may not {words}"):
        secluded.call(REFUSED[words], folder)
    with pytest.raises(Refused, match=f"^a method may not {words}"):  # if it catches what is raised, too
        secluded.call(swallowing, REFUSED[words], folder)
    with pytest.raises(Refused, match=f"^a method may not {words}"):  # and in a thread of its own
        secluded.call(in_a_thread, REFUSED[words], folder)
    assert secluded.call((folder / "code.py").read_text) == "x = 1"
    assert secluded.call((tmp_path / "open.txt").read_text) == "y"
    assert (folder / "secret.txt").read_text() == "x"  # to others it is open


def swallowing(function: Callable[[Path], object], place: Path) -> None:
    try:
        function(place)
    except Exception:
        return


def in_a_thread(function: Callable[[Path], object], place: Path) -> None:
    thread = threading.Thread(target=swallowing, args=(function, place))
    thread.start()
    thread.join()


def test_a_bare_thread_is_refused(secluded: Secluded) -> None:
    with pytest.raises(Refused, match=r"without a threading\.Thread"):
        secluded.call(_thread.start_new_thread, print, ())


def test_a_line_leads_to_no_meter() -> None:
    meter = WorkMeter(10)
    line = MeterLine(meter)
    line.charge(4, 2, 1)
    assert (meter.used, meter.pair_passes, meter.samples, line.progress) == (4, 2, 1, 0.4)
    with pytest.raises(BudgetSpent):
        line.charge(7)
    with pytest.raises(ValueError, match="work must not be negative"):
        line.charge(-1)
    assert meter.used == 4
    assert {name for name in dir(line) if not name.startswith("_")} == {"charge", "progress"}
    assert not any(thing is meter for _, thing in reachable({"line": line, "charge": line.charge}))
    for name in ("used", "paused", "total"):
        with pytest.raises(AttributeError):
            setattr(line, name, 0)


def test_an_exception_that_a_method_kept_leads_nowhere(secluded: Secluded) -> None:
    kept: list[BaseException] = []

    def spend() -> None:
        try:
            raise BudgetSpent
        except BudgetSpent as error:
            kept.append(error)
            raise

    with pytest.raises(BudgetSpent):
        secluded.call(spend)
    trace = kept[0].__traceback__
    while trace is not None:
        assert trace.tb_frame.f_code.co_filename != inspect.getfile(pytest)
        assert "secluded" not in trace.tb_frame.f_locals
        trace = trace.tb_next


def test_scikit_learn_may_ask_for_the_number_of_cores(tmp_path: Path) -> None:
    """It starts a process to count them at the first fit of a process, and these fits are made by methods."""
    program = tmp_path / "fit.py"
    program.write_text(
        "import numpy as np\n"
        "from joblib.externals.loky.backend import context\n"
        "from sklearn.mixture import GaussianMixture\n"
        "from ncbench.training.seclusion import Secluded\n"
        "context._cpu_count_user = lambda cores: cores  # as on a machine that is all ours, where lscpu is asked\n"
        "secluded = Secluded(type('Still', (), dict(name='still', resumes_midway=True, needs_truth=False))())\n"
        "fitted = secluded.call(GaussianMixture(2).fit, np.array([[0.0], [0.1], [0.9], [1.0]]))\n"
        "print(fitted.predict([[0.05], [0.95]]))\n"
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() in ("[0 1]", "[1 0]")
