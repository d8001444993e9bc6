"""Make the runs of the leaderboards: every command, in the order in which they are worth having.

Usage: python benchmarks/board.py PART ... [--jobs 2] [--runs runs] [--dry-run]

Parts:

  board      all methods under shuffled images (0, 0.2, 0.4, 0.6, 0.8) and captions (0.4, 0.8), equal work: five seeds,
             one after the other, so that the table has no hole after any of them
  newcomers  the methods that came later, under shuffled images, three seeds
  harder     six methods under `semantic`, `partial` and `concentrated` at 0.4
  papers     all methods for as many epochs of their own at 0.4 and 0.8, as papers train
  noisy      the two methods of `papers` that train on corrected noisy pairs late, and end badly, without these pairs
  compute    plain methods with as much work as the dearest method got in `papers`, whose records it reads
  backbones  seven methods with `sgr` and `saf` at 0.4 and 0.8
  apart      L2RM with one part changed at a time, at 0.4 and 0.8
  queues     L2RM with longer queues, and without its noisy branch, for as many epochs of its own: the same number of
             updates on clean pairs, whatever the rest costs
  photos     all methods on photos.toml, a dataset file in this folder, with the best settings of search-photos.json
             (`search.py --dataset photos.toml --noise 0.4,0.6 --budget 10 --out benchmarks/search-photos.json`)
  icons      the same for icons.toml, with a budget of 4
  warmup     L2RM with longer warm-ups at 0.8: under shuffled captions, where it fails with one of three seeds, and
             under shuffled images, where it is the best in its paper, but not here
  split      L2RM with a stricter split, a robust loss for the pairs that it keeps, or a shorter warm-up, at 0.8
  sgr        what falls with `sgr` at 0.8, given more time or smaller steps: L2RM with a later split, RCE with a later
             decay (at 0.4 too), RCE and RCL with half their learning rates, RCL with twice the budget
  gsc        GSC without its weights, and without its contrast of neighbourhoods, on clean pairs and at 0.4

Each part is one or more `ncbench run` commands, which are printed and executed one after the other. Finished runs are
not repeated, so a part can be interrupted, and continued on another machine that has the records.
"""

from __future__ import annotations

import math
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
from search import options_of

import ncbench

CONTESTANTS = ("infonce", "rce", "rcl", "decl", "ncr", "bicro", "mscn", "crcl", "gsc", "l2rm")
METHODS = ("triplet", *CONTESTANTS, "oracle")
NEWCOMERS = ("rince", "gce", "coteaching")
HARDER = ("triplet", "rce", "rcl", "crcl", "l2rm", "oracle")
ACROSS = ("triplet", "rce", "decl", "rcl", "ncr", "l2rm", "oracle")
PLAIN = ("triplet", "rce", "infonce")

WARMUPS = (0.55, 0.7)
"""Shares of the budget; the preset has 0.39."""

QUEUES = (256, 1000)
"""Lengths of L2RM's queue; the preset has 128, one batch. `scenes` has 4,000 training images."""

NEVER_WEIGHTED = 1e-9
"""Share of an epoch in GSC's averages, which begin at 1: weights stay there."""

RATIOS = "0,0.2,0.4,0.6,0.8"
OWN_EPOCHS = 5

VARIANTS = (
    "cost=complement",
    "mass=1",
    "given=allowed",
    "solver=exact",
    "solver=published",
    "loss=kl",
    "loss=jensen_shannon",
    "loss=arithmetic_geometric",
    "loss=soft_info_nce",
    "queue=256",
    "queue=1000",
    "noisy=left_out",
    "split=none",
)

SPLITS = ("threshold=0.5", "threshold=0.9", "threshold=0.99", "clean_loss=rce", "warmup=0.2")
"""Changes of the experiment in `l2rm_split.py`; the first is none, as a check."""

LATE_WARMUP = 0.7
"""Share of the budget before L2RM's split; the preset has 0.39."""

LATE_DECAY = 0.63
"""Share of the budget between two decays, as in the preset of RCL; that of RCE has 0.35."""

HALVED = {"rce": 0.0013, "rcl": 0.00165}
"""Half the learning rates of the presets."""

Words = Sequence[str]


def command(methods: Sequence[str], seeds: str, **options: object) -> list[str]:
    """Return the words of an `ncbench run`."""
    words = ["--method", ",".join(methods), "--seed", seeds]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    return words


def board(seed: int) -> list[Words]:
    """Return the commands of the board for a seed."""
    return [
        command(METHODS, str(seed), noise=RATIOS, protocol="shuffle-images"),
        command(METHODS, str(seed), noise="0.4,0.8", protocol="shuffle-captions"),
    ]


def compute(runs: Path) -> list[Words]:
    """Return the commands of plain methods with the work of the dearest method of `papers`, in whole epochs."""
    found = ncbench.load_runs(runs)
    used = found.loc[(found["budget_unit"] == "own-epochs") & (found["budget"] == OWN_EPOCHS), "used"]
    if used.empty:
        raise click.UsageError(f"{runs} has no runs of the part `papers`, whose work `compute` needs; make them first")
    return [command(PLAIN, "0,1,2", noise="0.4,0.8", budget=math.ceil(used.max()))]


def apart() -> list[Words]:
    """Return the command of L2RM with one part changed at a time."""
    changes = [word for variant in VARIANTS for word in ("--variant", f"l2rm.{variant}")]
    return [[*command(["l2rm"], "0,1,2", noise="0.4,0.8"), *changes]]


def with_sgr(change: str, ratios: str) -> list[str]:
    """Return the command of a method with one setting changed, such as "rce.lr=0.0013", and the backbone `sgr`."""
    return [*command([change.partition(".")[0]], "0,1", noise=ratios, backbone="sgr"), "--variant", change]


def own_data(name: str, budget: int) -> list[Words]:
    """Return the command for the dataset file `name`.toml, with the best settings of each method in its search."""
    log = Path(__file__).with_name(f"search-{name}.json")
    words = command(METHODS, "0,1,2", noise="0,0.4,0.6", budget=budget, dataset=f"{name}.toml")
    try:
        return [[*words, *(word for method in METHODS for word in options_of(log, method))]]
    except OSError as error:
        raise click.UsageError(f"cannot read {log} ({error.strerror}); search settings first") from error
    except ValueError as error:
        raise click.UsageError(f"{log} is incomplete: {error}; continue the search first") from error


PARTS: Mapping[str, Callable[[Path], Sequence[Words]]] = {
    "board": lambda runs: [words for seed in range(5) for words in board(seed)],
    "newcomers": lambda runs: [command(NEWCOMERS, "0,1,2", noise=RATIOS, protocol="shuffle-images")],
    "harder": lambda runs: [command(HARDER, "0,1,2", noise="0.4", protocol="semantic,partial,concentrated")],
    "papers": lambda runs: [command(METHODS, "0,1,2", noise="0.4,0.8", budget=f"{OWN_EPOCHS}own-epochs")],
    "noisy": lambda runs: [
        [
            *command(["ncr", "bicro"], "0,1,2", noise="0.4,0.8", budget=f"{OWN_EPOCHS}own-epochs"),
            *("--variant", "ncr.noisy_after=1", "--variant", "bicro.noisy_after=1"),
        ]
    ],
    "compute": compute,
    "backbones": lambda runs: [command(ACROSS, "0,1", noise="0.4,0.8", backbone="sgr,saf")],
    "apart": lambda runs: apart(),
    "queues": lambda runs: [
        [
            *command(["l2rm"], "0,1,2", noise="0.4,0.8", budget=f"{OWN_EPOCHS}own-epochs"),
            *(word for length in QUEUES for word in ("--variant", f"l2rm.queue={length}")),
            *("--variant", "l2rm.noisy=left_out"),
        ]
    ],
    "photos": lambda runs: own_data("photos", 10),
    "icons": lambda runs: own_data("icons", 4),
    "warmup": lambda runs: [
        [
            *command(["l2rm"], "0,1,2", noise="0.8", protocol="shuffle-captions,shuffle-images"),
            *(word for share in WARMUPS for word in ("--variant", f"l2rm.warmup={share}")),
        ]
    ],
    "split": lambda runs: [
        [
            *command(["benchmarks/l2rm_split.py"], "0,1,2", noise="0.8"),
            *(word for change in SPLITS for word in ("--variant", f"l2rm-split.{change}")),
        ]
    ],
    "sgr": lambda runs: [
        with_sgr(f"l2rm.warmup={LATE_WARMUP}", "0.8"),
        with_sgr(f"rce.decay_every={LATE_DECAY}", "0.4,0.8"),
        *(with_sgr(f"{method}.lr={rate}", "0.8") for method, rate in HALVED.items()),
        command(["rcl"], "0,1", noise="0.8", backbone="sgr", budget=10),
    ],
    "gsc": lambda runs: [
        [
            *command(["gsc"], "0,1,2", noise="0,0.4"),
            *("--variant", f"gsc.beta={NEVER_WEIGHTED}", "--variant", "gsc.gamma=0"),
        ]
    ],
}


@click.command()
@click.argument("parts", nargs=-1, required=True, type=click.Choice(list(PARTS)))
@click.option("--jobs", default=2, show_default=True, help="Number of runs at a time.")
@click.option("--runs", default=Path("runs"), show_default=True, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Print the planned runs with estimates of work and time.")
def main(parts: Sequence[str], jobs: int, runs: Path, dry_run: bool) -> None:
    """Make the runs of some parts; see the top of this file."""
    failed = 0
    for words in (words for part in parts for words in PARTS[part](runs)):
        whole = ["ncbench", "run", *words, "--jobs", str(jobs), "--out", str(runs), *(["--dry-run"] if dry_run else [])]
        click.echo(shlex.join(whole))
        program = Path(sys.executable).with_name("ncbench")
        done = subprocess.run([str(program), *whole[1:]], check=False)
        if done.returncode == 2 or done.returncode >= 128:  # nothing was started, or it was interrupted
            sys.exit(done.returncode)
        failed = failed or done.returncode
    sys.exit(failed)


if __name__ == "__main__":
    main()
