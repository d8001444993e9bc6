"""Whether a record holds together: its scores follow from its ranks, its work keeps its budget, its digests fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncbench.backbones.registry import members_of
from ncbench.errors import UserError
from ncbench.noise.storage import load_noise
from ncbench.records import arrays
from ncbench.records.arrays import load_ranks, load_retrieved
from ncbench.records.spec import RunSpec
from ncbench.records.store import ORIGIN, noise_path, read_history, read_record, records_around

TOLERANCE = 1e-9  # of scores, in points: the formulas are the same, sums may be taken in another order
OVERTIME = 1.1  # of a budget in seconds, and a second more: the last step may end late


def verify_run(folder: Path) -> list[str]:
    """Return what is wrong with the record in `folder`, in a sentence each; nothing if all is well."""
    problems: list[str] = []
    try:
        result = read_record(folder / "result.json")
        spec = RunSpec.from_dict(result["spec"])
    except (UserError, KeyError, TypeError) as error:
        return [f"result.json is no result of this version ({error})"]
    for check in (_identity, _scores, _retrieved, _work, _course, _noise, _measurements):
        try:
            problems += check(folder, spec, result)
        except UserError as error:
            problems.append(str(error))
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            problems.append(f"the record lacks or garbles what is needed to check its {check.__name__[1:]} ({error!r})")
    return problems


def runs_below(folder: Path) -> list[Path]:
    """Return the folders of finished runs: `folder` itself, or those of the store that it is. Raises UserError."""
    if (folder / "result.json").is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob("*/*/*/result.json"))
    if not found:
        raise UserError(f"{folder} is neither a finished run nor a folder of records with one.")
    return found


def _identity(folder: Path, spec: RunSpec, result: Mapping[str, Any]) -> Iterator[str]:
    path = (spec.dataset, spec.method, spec.id)
    if result["id"] != spec.id:
        yield f"the id is {result['id']}, but that of its spec is {spec.id}"
    if folder.resolve().parts[-3:] != path:
        yield f"the folder of this spec would be {'/'.join(path)}"
    if read_record(folder / "spec.json") != result["spec"]:
        yield "spec.json differs from the spec in result.json"
    if result["status"] != "done":
        yield f"a result has the status 'done', found {result['status']!r}"


def _scores(folder: Path, spec: RunSpec, result: Mapping[str, Any]) -> Iterator[str]:
    ranks = load_ranks(folder / "ranks.npz")
    if set(ranks) != set(result["metrics"]):
        yield f"there are ranks for {sorted(ranks)} and scores for {sorted(result['metrics'])}"
    for name in sorted(set(ranks) & set(result["metrics"])):
        for place, said, found in _differences(result["metrics"][name], ranks[name].retrieval().to_dict()):
            yield f"{name} {place} is {said}, but its ranks give {found}"


def _differences(said: Mapping[str, Any], found: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    if set(said) != set(found):
        yield f"{prefix}(names)", sorted(said), sorted(found)
    for key in [key for key in found if key in said]:
        if isinstance(found[key], Mapping):
            yield from _differences(said[key], found[key], f"{prefix}{key} ")
        elif not abs(said[key] - found[key]) <= TOLERANCE:  # also not for NaN
            yield f"{prefix}{key}", said[key], found[key]


def _retrieved(folder: Path, spec: RunSpec, result: Mapping[str, Any]) -> Iterator[str]:
    """Compare what was found first with the ranks: a record of old may not hold it."""
    path = folder / arrays.TOP_K_FILE
    if not path.is_file() or not (folder / "ranks.npz").is_file():
        return
    found, ranks = load_retrieved(path), load_ranks(folder / "ranks.npz")
    whole = ranks.get("test_unfolded", ranks["test"])
    described = np.unique(found.true)  # images without captions have no rank
    for side, right in (("i2t", found.i2t_right[described]), ("t2i", found.t2i_right)):
        said = getattr(whole, side)[0]
        shown = np.where(right.any(1), right.argmax(1), right.shape[1])
        if len(said) != len(shown):
            yield f"{arrays.TOP_K_FILE} is of {len(shown)} {side} queries, ranks.npz of {len(said)}"
        elif wrong := int(np.count_nonzero(shown != np.minimum(said, right.shape[1]))):
            yield f"{arrays.TOP_K_FILE} contradicts ranks.npz in {wrong} of {len(said)} {side} queries"


def _work(folder: Path, spec: RunSpec, result: Mapping[str, Any]) -> Iterator[str]:
    work = result["work"]
    budget, used, epoch = work["budget"], work["used"], work.get("baseline_epoch")
    if not used > 0 or not work["updates"] > 0:
        yield f"{work['updates']} updates did work of {used} FLOPs; both must be above 0"
    if spec.budget.unit in ("seconds", "own-epochs"):
        return
    if used > budget:
        yield f"work of {used} FLOPs exceeds the budget of {budget}"
    amount = spec.budget.amount
    due = amount if spec.budget.unit == "flops" else epoch and amount * epoch  # older records have no epoch
    if due and abs(budget - due) > len(members_of(spec.backbone)):
        yield f"the budget is {budget} FLOPs, but its spec means {due:.0f}"


def _course(folder: Path, spec: RunSpec, result: Mapping[str, Any]) -> Iterator[str]:
    """Compare the result with history.jsonl: the last line of every member, and the best one."""
    history = read_history(folder)
    last = {line["backbone"]: line for line in history}
    if list(last) != list(members_of(spec.backbone)):
        yield f"history.jsonl tells of {', '.join(last) or 'nothing'}, not of {', '.join(members_of(spec.backbone))}"
        return
    for what in ("updates", "used"):
        told = sum(line[{"used": "work"}.get(what, what)] for line in last.values())
        if told != result["work"][what]:
            yield f"history.jsonl ends with {what} of {told}, the result says {result['work'][what]}"
    selected = result["selected"]
    for name, chosen in selected.get("members", {spec.backbone: selected}).items():
        best = max(line["dev"]["rsum"] for line in history if line["backbone"] == name)
        if chosen["dev_rsum"] != best:
            yield f"{name} was selected at dev rSum {chosen['dev_rsum']}, but the best in history.jsonl is {best}"


def _noise(folder: Path, spec: RunSpec, result: Mapping[str, Any]) -> Iterator[str]:
    path = noise_path(records_around(folder), spec)
    if not path.is_file() and (folder / ORIGIN).is_file():
        return  # a submission names noise by its digest alone
    noise = load_noise(path)
    if noise.digest != spec.noise_digest:
        yield f"the noise that is kept has digest {noise.digest}, the spec names {spec.noise_digest}"
    # What is drawn of a tiny set may be nothing, whatever the ratio: such noises share a digest, and a file.
    if noise.ratio != spec.noise and noise.ratio and spec.noise:
        yield f"the noise that is kept is of ratio {noise.ratio:g}, the spec says {spec.noise:g}"


def _measurements(folder: Path, spec: RunSpec, result: Mapping[str, Any]) -> Iterator[str]:
    seconds = read_record(folder / "measurements.json")["seconds"]
    for use, value in seconds.items():
        if not (math.isfinite(value) and value >= 0):
            yield f"the seconds of {use} are {value}"
    if spec.budget.unit == "seconds" and seconds["training"] > OVERTIME * spec.budget.amount + 1:
        yield f"training took {seconds['training']:.1f} s of a budget of {spec.budget}"
