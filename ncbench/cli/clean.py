"""`ncbench clean`: sort the pairs of any input into those to keep, to review and to drop."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ncbench.cli.display.output import print_json
from ncbench.cli.options import parameters

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("source", metavar="INPUT")
@click.option(
    "--out",
    type=FILE,
    required=True,
    metavar="FILE",
    help="List of the pairs to keep: .parquet, .csv, .tsv or .jsonl. The other files are written next to it.",
)
@click.option("--captions", metavar="COL", help="Column with captions, or lists of captions.  [default: by name]")
@click.option("--images", metavar="COL", help="Column with images or their files.  [default: by name and type]")
@click.option("--image-vectors", metavar="COL", help="Column with image vectors.  [default: by name and type]")
@click.option("--text-vectors", metavar="COL", help="Column with caption vectors.  [default: by name and type]")
@click.option("--ids", metavar="COL", help="Column with ids, for the gallery.  [default: by name]")
@click.option(
    "--captions-file", type=FILE, metavar="FILE", help="For a folder of images: its table, if that is not in it."
)
@click.option("--pictures", type=parameters.FOLDER, help="Folder of image files.  [default: the folder of the table]")
@click.option(
    "--model",
    metavar="MODEL",
    default="builtin",
    show_default=True,
    help="Feature extractor for images: builtin, timm:NAME or transformers:NAME_OR_FOLDER.",
)
@click.option(
    "--scorers",
    type=parameters.NAMES,
    help="cosine, linear, neighbours and names of methods.  [default: those that fit, and l2rm up to 20,000 pairs]",
)
@click.option(
    "--drop",
    "rule",
    type=click.Choice(["ratio", "threshold", "share"]),
    default="ratio",
    show_default=True,
    help="What decides: the estimated noise ratio and its interval, P(mismatched), or a fixed share.",
)
@click.option("--drop-from", type=float, metavar="P", help="For threshold: drop from this P.  [default: 0.8]")
@click.option("--review-from", type=float, metavar="P", help="For threshold: review from this P.  [default: 0.2]")
@click.option("--share", type=float, metavar="S", help="For share: drop exactly this share of the pairs.")
@click.option("--backbone", default="vse", show_default=True, metavar="NAME", help="Network that methods train.")
@click.option(
    "--epochs",
    type=click.FloatRange(min=0, min_open=True),
    default=8.0,
    show_default=True,
    help="Training budget for each fold, in epochs of plain training.",
)
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Parts for cross-fitting.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of all randomness.")
@click.option("--skip-bad", is_flag=True, help="Leave out pictures that cannot be read, and list them at the end.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@parameters.device
@parameters.as_json
def clean(
    source: str,
    out: Path,
    captions: str | None,
    images: str | None,
    image_vectors: str | None,
    text_vectors: str | None,
    ids: str | None,
    captions_file: Path | None,
    pictures: Path | None,
    model: str,
    scorers: tuple[str, ...] | None,
    rule: str,
    drop_from: float | None,
    review_from: float | None,
    share: float | None,
    backbone: str,
    epochs: float,
    folds: int,
    seed: int,
    skip_bad: bool,
    force: bool,
    device: str,
    as_json: bool,
) -> None:
    """Find the mismatched pairs of a dataset.

    INPUT is a .csv, .tsv or .jsonl file with image files and captions; a folder of images with such a file; an .npz
    file with two matrices of vectors; or tables of datasets: parquet, Arrow, webdataset, hf:NAME.

    No pair is judged by a model that was trained on it. Writes the pairs to keep (FILE), to review and dropped, with
    all columns of the input and P(mismatched), a gallery (.html) and a summary (.json). The input is not changed.
    """
    from ncbench.cleaning.clean import Options
    from ncbench.cleaning.clean import clean as clean_pairs
    from ncbench.cleaning.inputs.found_columns import Columns
    from ncbench.cleaning.inputs.opening import Source
    from ncbench.cleaning.scoring import Training
    from ncbench.cleaning.summary import sentences, summary_of
    from ncbench.cleaning.verdicts import Rule
    from ncbench.cli.display.skipped import print_skipped
    from ncbench.runtime.device import choose_device

    def opened(found: Source) -> None:
        click.echo(f"{found.name}: {found.n_rows:,} rows; {found.columns.in_words}", err=True)

    def progress(doing: str, part: float) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r{doing} {part:.0%}".ljust(40), err=True, nl=False)

    given = Columns(captions or "", images or "", image_vectors or "", text_vectors or "", ids or "")
    options = Options(
        scorers,
        Rule(rule, drop_from, review_from, share),  # type: ignore[arg-type]
        Training(backbone, epochs, choose_device(device)),
        folds,
        seed,
    )
    done = clean_pairs(
        source,
        out,
        options,
        columns=given,
        captions_file=captions_file,
        pictures=pictures,
        features=model,
        force=force,
        skip_bad=skip_bad,
        on_opened=opened,
        on_progress=progress,
    )
    if sys.stderr.isatty():
        click.echo("\r".ljust(40) + "\r", err=True, nl=False)
    if as_json:
        print_json(summary_of(done, options))
        return
    for sentence in sentences(done, options):
        click.echo(sentence)
    for name, path in done.lists.items():
        click.echo(f"wrote {path} ({name}: {done.counts[name]:,} pairs)")
    click.echo(f"wrote {done.gallery} and {done.summary}")
    if done.skipped is not None:
        print_skipped(done.skipped, done.content.skipped)
