"""`ncbench eval`: retrieval scores of trained networks: released checkpoints and finished runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ncbench.backbones.precision import Precision, matmul_precision
from ncbench.cli.display.output import console, print_json, print_table
from ncbench.cli.display.verbosity import verbosity
from ncbench.cli.options import parameters
from ncbench.cli.options.names import Name
from ncbench.errors import UserError

if TYPE_CHECKING:
    import torch

    from ncbench.backbones.base import Backbone
    from ncbench.backbones.released.checkpoint import Checkpoint
    from ncbench.data.dataset import FloatArray, Split
    from ncbench.data.fitting import FittingPairs
    from ncbench.evaluation.fitting import FittingRetrieval
    from ncbench.evaluation.retrieval import Retrieval


@click.command("eval")
@click.option(
    "--checkpoint",
    "paths",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    required=True,
    help="A released model_best.pth.tar, or a run folder. Repeat to average over several networks.",
)
@click.option(
    "--dataset",
    "name",
    type=Name("datasets"),
    required=True,
    metavar="NAME",
    help="Dataset to evaluate on; see ncbench data list.",
)
@parameters.dev_rule
@parameters.image_features
@parameters.captions
@parameters.text_features
@parameters.data_root
@click.option(
    "--split",
    type=click.Choice(["train", "dev", "test"]),
    default="test",
    show_default=True,
    help="Split to evaluate on.",
)
@click.option(
    "--average",
    type=click.Choice(["scores", "evidence"]),
    default="scores",
    show_default=True,
    help="How to combine several networks: average their scores, or average exp(tanh(logit) / 0.1) as DECL does.",
)
@click.option(
    "--similarities",
    "out",
    type=click.Path(path_type=Path),
    help="Save the (images, captions) similarity matrix to this .npy file.",
)
@click.option(
    "--annotations",
    type=click.Choice(["eccv", "cxc"]),
    multiple=True,
    help="Also score all that fits by ECCV Caption or CxC, which annotate MS-COCO's 5K test split. Repeatable; needs "
    "--coco-ids and pip install 'ncbench[coco]'.",
)
@click.option(
    "--coco-ids",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="For --annotations: the ids of MS-COCO of the rows of the split, such as the released testall_ids.txt.",
)
@parameters.device
@parameters.precision
@parameters.as_json
def evaluate(
    paths: tuple[Path, ...],
    name: str,
    data_root: Path | None,
    dev_rule: str,
    image_features: str | None,
    captions: str | None,
    text_features: str | None,
    split: str,
    average: str,
    out: Path | None,
    annotations: tuple[str, ...],
    coco_ids: Path | None,
    device: str,
    precision: Precision,
    as_json: bool,
) -> None:
    """Evaluate released checkpoints or finished runs.

    Reads released checkpoints of SGR and SAF (by SGRAF, NCR, DECL, RCL, BiCro, CRCL and L2RM), of VSE-infinity (by
    CRCL), and of SCAN. Code in checkpoint files is never executed.
    """
    from ncbench.data.imported.request import with_columns
    from ncbench.data.registry import check_dataset, with_dev_rule

    columns = {"image-features": image_features, "captions": captions, "text-features": text_features}
    (name,) = with_dev_rule(with_columns([name], columns), dev_rule)
    check_dataset(name)
    if out is not None:
        _check_new(out)
    if bool(annotations) != (coco_ids is not None):
        raise UserError("--annotations and --coco-ids FILE belong together: the ids say which rows are annotated")

    import numpy as np

    from ncbench.backbones.registry import check_precision
    from ncbench.cli.display.fitting import print_fitting
    from ncbench.data.coco_annotations import NAMES
    from ncbench.data.registry import load_dataset, load_split
    from ncbench.evaluation.averaging import TRANSFORMS
    from ncbench.evaluation.averaging import average as average_of
    from ncbench.evaluation.outcome import outcome_of
    from ncbench.evaluation.scored_blocks import ScoredBlocks, too_large
    from ncbench.evaluation.ties import warn_if_tied
    from ncbench.records.networks import RunCheckpoint, read_checkpoint
    from ncbench.runtime.device import choose_device
    from ncbench.runtime.files import write_atomic

    chosen = choose_device(device)
    checkpoints = [read_checkpoint(path) for path in paths]
    for found in checkpoints:
        for kind in found.kinds:
            check_precision(kind, precision)
    if average == "evidence":
        _check_sigmoid(checkpoints)
    trained_here = any(isinstance(found, RunCheckpoint) for found in checkpoints)
    # A run is checked against the digest of the whole dataset; released checkpoints need only one split.
    dataset = load_dataset(name, data_root) if trained_here else load_split(name, data_root, split)
    networks = [(found.path, backbone) for found in checkpoints for backbone in found.build(dataset)]
    part = dataset.splits[split]
    fitting = _annotated(annotations, coco_ids, part) if coco_ids is not None else {}
    for _, network in networks:
        network.use_precision(precision)
    folds, annotated = dataset.folds if split == "test" else 1, {}
    with matmul_precision(precision):
        if too_large(part) and out is None and not fitting:
            mean = partial(average_of, transform=TRANSFORMS[average])
            there = [backbone.to(chosen) for _, backbone in networks]
            outcome = outcome_of(ScoredBlocks(there, part, chosen, combine=mean), part.true, folds, depth=0)
        else:
            similarities = average_of(_matrices(networks, part, chosen, quiet=as_json), TRANSFORMS[average])
            if out is not None:
                write_atomic(out, lambda file: np.save(file, similarities))
            outcome = outcome_of(similarities, part.true, folds, depth=0)
            annotated = {each: _fitting_scores(similarities, part, *pairs) for each, pairs in fitting.items()}
    warn_if_tied(outcome.tied, len(part.true), f"{dataset.name} {split}")
    scores = (outcome.folded or outcome.whole).retrieval()
    unfolded = outcome.whole.retrieval() if outcome.folded else None
    if as_json:
        more = {each: asdict(one) for each, one in annotated.items()}
        print_json({**scores.to_dict(), **({"unfolded": unfolded.to_dict()} if unfolded else {}), **more})
        return
    rows = [
        (str(found.path), ", ".join(found.kinds), "-" if found.epoch is None else str(found.epoch))
        for found in checkpoints
    ]
    print_table("Networks", ("checkpoint", "networks", "epoch"), rows, numbers=("epoch",))
    size = f"{len(part.images)} images, {len(part.captions)} captions"
    _print_scores(f"{dataset.name} {split}: {size}" + (f", mean of {folds} folds" if folds > 1 else ""), scores)
    if unfolded:
        _print_scores(f"{dataset.name} {split}: {size}, unfolded", unfolded)
    for each, one in annotated.items():
        print_fitting(f"All that fits by {NAMES[each]}, in %", one)


def _annotated(names: Sequence[str], ids_file: Path, split: Split) -> dict[str, tuple[FittingPairs, FittingPairs]]:
    """Return what fits by annotations of MS-COCO, by name. Raises UserError unless they are of this split."""
    from ncbench.data.coco_annotations import CocoRows, coco_fitting

    rows = CocoRows.of_package()
    rows.check(split, ids_file)
    return {name: coco_fitting(name, rows) for name in names}


def _fitting_scores(
    similarities: FloatArray, split: Split, for_images: FittingPairs, for_captions: FittingPairs
) -> FittingRetrieval:
    """Return the scores of all that fits, where the fitting pairs of both directions differ."""
    from ncbench.evaluation.fitting import FittingRetrieval, evaluate_fitting

    found = [
        evaluate_fitting(similarities, split.true, pairs.captions, pairs.images) for pairs in (for_images, for_captions)
    ]
    return FittingRetrieval(found[0].i2t, found[1].t2i)


def _check_new(out: Path) -> None:
    if out.exists():
        raise UserError(f"--similarities {out}: already exists; choose another file or delete it")
    if not out.parent.is_dir():
        raise UserError(f"--similarities {out}: folder {out.parent} does not exist")


def _check_sigmoid(checkpoints: Sequence[Checkpoint]) -> None:
    from ncbench.backbones.head import head_width
    from ncbench.backbones.registry import backbone_class

    for found in checkpoints:
        for kind, weights in zip(found.kinds, found.weights, strict=True):
            if not (backbone_class(kind).IN_UNIT_INTERVAL or head_width(weights)):
                raise UserError(f"--average evidence requires sigmoid scores; {kind} in {found.path} has none")


def _matrices(
    networks: Sequence[tuple[Path, Backbone]], split: Split, device: torch.device, quiet: bool
) -> Iterator[FloatArray]:
    """Yield the similarity matrix of each network. Raises UserError if it is not finite."""
    import numpy as np
    from rich.markup import escape

    from ncbench.evaluation.similarity import similarity_matrix

    shown = console(to_stderr=True)
    for number, (path, backbone) in enumerate(networks, 1):
        words = f"network {number} of {len(networks)}: {path}"
        with nullcontext() if quiet or verbosity().quiet or not shown.is_terminal else shown.status(escape(words)):
            matrix = similarity_matrix([backbone.to(device)], split, device)
        if not np.isfinite(matrix).all():
            raise UserError(f"{path}: produces NaN or infinite similarities; its weights are damaged")
        yield matrix


def _print_scores(title: str, scores: Retrieval) -> None:
    columns = ("direction", "R@1", "R@5", "R@10", "median rank", "mean rank")
    rows = [
        (name, *(f"{value:.1f}" for value in (side.r1, side.r5, side.r10, side.medr, side.meanr)))
        for name, side in (("i2t", scores.i2t), ("t2i", scores.t2i))
    ]
    print_table(title, columns, rows, numbers=columns[1:])
    click.echo(f"rSum {scores.rsum:.1f}")
