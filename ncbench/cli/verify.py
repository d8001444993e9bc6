"""`ncbench verify`: check that run records and submissions are consistent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from ncbench.cli.display.output import one_line, print_json
from ncbench.cli.options import parameters
from ncbench.errors import UserError

if TYPE_CHECKING:
    from ncbench.records.claims import Claims
    from ncbench.records.submission import Submission


@dataclass
class Checked:
    """What was found in the arguments of the command: the folder and the problems of every run, by its name."""

    runs: dict[str, Path] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    submissions: dict[str, tuple[Submission, Claims]] = field(default_factory=dict)
    unreadable: list[UserError] = field(default_factory=list)
    earlier: list[str] = field(default_factory=list)
    """The runs that an earlier version of the harness made."""
    self_reported: list[str] = field(default_factory=list)
    """The runs that were trained outside ncbench."""
    slow: dict[str, str] = field(default_factory=dict)
    """What is unusual about the time of a run, which is no problem of its record, by its name."""

    @property
    def bad(self) -> Mapping[str, list[str]]:
        """The runs with problems."""
        return {name: problems for name, problems in self.problems.items() if problems}


@dataclass(frozen=True)
class Replays:
    """How many runs to run again, and how."""

    count: int
    data_root: Path | None
    files: Mapping[str, Path | None]
    """The file that defines the method, or the backbone, by the name of its copy beside a record."""
    run_bundled: bool
    device: str
    tolerance: float
    quiet: bool


@click.command()
@click.argument("places", metavar="DIR|FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@parameters.data_root
@click.option(
    "--replay",
    "replays",
    type=click.IntRange(min=1),
    metavar="N",
    help="Also run N runs again, drawn at random, and compare the results.",
)
@click.option(
    "--method-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --replay: file that defines the method. It is run.",
)
@click.option(
    "--backbone-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --replay: file that defines the backbone. It is run.",
)
@click.option(
    "--run-bundled",
    is_flag=True,
    help="With --replay: run the files of methods and backbones of the submission. Read them first.",
)
@parameters.device
@parameters.tolerance
@parameters.as_json
def verify(
    places: tuple[Path, ...],
    data_root: Path | None,
    replays: int | None,
    method_file: Path | None,
    backbone_file: Path | None,
    run_bundled: bool,
    device: str,
    tolerance: float,
    as_json: bool,
) -> None:
    """Check that run records are consistent.

    Takes run folders, folders with many runs, and submission files. Recomputes scores from stored ranks and beliefs,
    checks the budget, and that specs, ids, digests, dev evaluations and measurements agree. Of a submission, also says
    what it claims: who made it, its grid and seeds, and what is missing. Warns of runs that take far more time per FLOP
    than those of other methods. Exits with code 1 if a record is inconsistent,
    or a replay gives another result.
    """
    if not replays and (method_file or backbone_file or run_bundled):
        raise UserError(
            "--method-file, --backbone-file and --run-bundled go with --replay N; without it, no method is run"
        )
    from ncbench.records.record import BACKBONE_FILE, METHOD_FILE

    with ExitStack() as stack:
        checked = _check(places, data_root, stack)
        if not checked.runs:
            raise checked.unreadable[0]
        files = {METHOD_FILE: method_file, BACKBONE_FILE: backbone_file}
        asked = Replays(replays or 0, data_root, files, run_bundled, device, tolerance, as_json)
        verdicts = dict(_replayed(checked, asked))
    if as_json:
        print_json(_content(checked, verdicts, replays is not None))
    else:
        _print(checked, verdicts)
    for error in checked.unreadable[1:]:
        click.echo(one_line(f"Error: {error}"), err=True)
    if checked.unreadable:
        raise checked.unreadable[0]
    if checked.bad or any(outcome in ("different", "failed") for outcome, _ in verdicts.values()):
        raise SystemExit(1)


def _check(places: Sequence[Path], data_root: Path | None, stack: ExitStack) -> Checked:
    """Check every place; one that cannot be read does not stop the others."""
    from ncbench.records.claims import Claims
    from ncbench.records.record import Record
    from ncbench.records.submission import read_submission, specs_of, unpack
    from ncbench.records.verification import Datasets, is_self_reported, of_earlier_harness, runs_below, verify_run
    from ncbench.records.work import unusually_slow

    checked, datasets = Checked(), Datasets(data_root)
    for place in places:
        try:
            if place.is_dir():
                checked.runs |= {str(run): run for run in runs_below(place)}
                continue
            if not place.exists():
                raise UserError(f"{place} is neither a finished run nor a folder of records with one")
            submission = read_submission(place)
            claims = Claims.of(specs_of(place, submission), {*submission.methods, *submission.backbones})
            root = Path(stack.enter_context(TemporaryDirectory(prefix="ncbench-verify-")))
            checked.runs |= {f"{place}, {run.relative_to(root)}": run for run in unpack(place, root)}
            checked.submissions[str(place)] = submission, claims
        except UserError as error:
            checked.unreadable.append(error)
    checked.problems = {name: verify_run(run, datasets.of) for name, run in checked.runs.items()}
    checked.earlier = [name for name, run in checked.runs.items() if of_earlier_harness(run)]
    checked.self_reported = [name for name, run in checked.runs.items() if is_self_reported(run)]
    sound = {run: name for name, run in checked.runs.items() if not checked.problems[name]}
    checked.slow = {sound[run]: words for run, words in unusually_slow(map(Record, sound)).items()}
    return checked


def _replayed(checked: Checked, asked: Replays) -> Iterator[tuple[str, tuple[str, str]]]:
    """Run some runs again, drawn at random; yield the outcome and the details of each, by its name."""
    import random

    from ncbench.cli.replay import run_again

    names = [name for name, problems in checked.problems.items() if not problems and name not in checked.self_reported]
    for name in random.SystemRandom().sample(names, min(asked.count, len(names))):
        run = checked.runs[name]
        method, backbone = (
            given or (run / file if asked.run_bundled and (run / file).is_file() else None)
            for file, given in asked.files.items()
        )
        try:
            verdict = run_again(
                run, asked.data_root, method, backbone, asked.device, asked.tolerance, None, asked.quiet
            )
        except UserError as error:
            yield name, ("failed", str(error))
        except SystemExit as stopped:
            if stopped.code != 1:  # a signal
                raise
            yield name, ("failed", "the run failed here")
        else:
            yield name, (verdict.outcome, verdict.in_words(asked.tolerance))


def _content(checked: Checked, verdicts: Mapping[str, tuple[str, str]], replayed: bool) -> dict[str, object]:
    content: dict[str, object] = {
        "runs": len(checked.runs),
        "problems": checked.bad,
        "earlier_harness": checked.earlier,
        "self_reported": checked.self_reported,
        "unusually_slow": checked.slow,
    }
    if checked.submissions:
        content["submissions"] = {
            place: {"name": said.name, "contact": said.contact, "about": said.about, **asdict(claims)}
            for place, (said, claims) in checked.submissions.items()
        }
    if replayed:
        content["replays"] = {
            name: {"outcome": outcome, "detail": detail} for name, (outcome, detail) in verdicts.items()
        }
    return content


def _print(checked: Checked, verdicts: Mapping[str, tuple[str, str]]) -> None:
    for place, (said, claims) in checked.submissions.items():
        click.echo(f"{place}: submission {said.name}")
        click.echo(f"  contact: {one_line(said.contact) or 'none given'}")
        click.echo(f"  about: {one_line(said.about) or 'nothing said'}")
        for line in claims.lines():
            click.echo(f"  {one_line(line)}")
    for name, problems in checked.bad.items():
        for problem in problems:
            click.echo(one_line(f"{name}: {problem.rstrip('.')}."))
    for name, words in checked.slow.items():
        click.echo(one_line(f"Warning: {name}: {words}."))
    for name, (_, detail) in verdicts.items():
        click.echo(one_line(f"replayed {name}: {detail}"))
    count = len(checked.runs)
    click.echo(f"{count} {'run' if count == 1 else 'runs'} checked, {len(checked.bad)} with problems")
    if checked.earlier:
        click.echo(f"{len(checked.earlier)} made by an earlier version of the harness; results differ since")
    if checked.self_reported:
        click.echo(f"{len(checked.self_reported)} self-reported: trained outside ncbench, which did not count the work")
