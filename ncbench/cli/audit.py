"""`ncbench audit`: list the training pairs that a run's method believes to be mismatched."""

from __future__ import annotations

from pathlib import Path

import click

from ncbench.cli.display.output import print_json
from ncbench.cli.options import parameters

DEFAULT_PICTURES = 50


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="CSV file to write.  [default: audit-ID.csv]",
)
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Write only the first N pairs.  [default: all]")
@click.option(
    "--pictures",
    type=parameters.FOLDER,
    help=f"Also write the images of the listed pairs to this folder, as PNG: --top pairs, or the first "
    f"{DEFAULT_PICTURES}.",
)
@click.option(
    "--with-truth",
    is_flag=True,
    help="Add columns with the ground truth: whether a pair is mismatched, and what noise did to it. Needs a dataset "
    "that has it.",
)
@click.option(
    "--figure",
    type=click.Path(path_type=Path),
    metavar="STEM",
    help="Plot how well P(clean) separates clean from mismatched pairs, to STEM.svg and STEM.png. Needs ground truth.",
)
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@parameters.data_root
@parameters.as_json
def audit(
    run: Path,
    out: Path | None,
    top: int | None,
    pictures: Path | None,
    with_truth: bool,
    figure: Path | None,
    force: bool,
    data_root: Path | None,
    as_json: bool,
) -> None:
    """List a run's training pairs, most likely mismatched first.

    RUN is a run folder, such as runs/scenes/l2rm/0123456789ab. The CSV has one row per pair: the caption, its claimed
    image, P(mismatched), and the image that the method matched it with instead.
    """
    from ncbench.records.audit import load_audit, write_audit, write_pictures
    from ncbench.report.figures.style import figure_files
    from ncbench.runtime.files import check_absent

    found = load_audit(run, data_root)
    path = out or Path(f"audit-{found.spec.id}.csv")
    drawn = figure_files(figure) if figure else []
    clean = found.clean() if with_truth or figure else None
    if not force:
        check_absent([path, *drawn])
    shown = write_pictures(found, top or DEFAULT_PICTURES, pictures, force) if pictures else []
    rows = write_audit(found, path, top, with_truth, shown)
    if figure and clean is not None:
        from ncbench.report.figures.beliefs import draw_beliefs

        draw_beliefs(found.p_clean[found.judged], clean[found.judged], found.title, figure)
    images = sorted({str(file) for row in shown for file in (row.claimed, row.rematched) if file})
    if as_json:
        print_json(
            {
                "written": [str(path), *map(str, drawn), *images],
                "rows": rows,
                "pairs": len(found.p_clean),
                "flagged": found.flagged,
            }
        )
        return
    click.echo(f"{found.flagged:,} of {len(found.p_clean):,} pairs are more likely mismatched than not")
    click.echo(f"wrote {path} ({rows:,} {'row' if rows == 1 else 'rows'})")
    for file in drawn:
        click.echo(f"wrote {file}")
    if pictures:
        click.echo(f"wrote {len(images)} images to {pictures}")
