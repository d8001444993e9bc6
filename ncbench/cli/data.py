"""`ncbench data`: which datasets there are, what makes some, and whether one can be trained and tested on."""

from __future__ import annotations

from pathlib import Path

import click

from ncbench.cli.display.listing import list_plugins, print_plugins
from ncbench.cli.display.output import print_json, print_table
from ncbench.cli.display.verdicts import json_file, show_verdicts
from ncbench.cli.options import parameters
from ncbench.cli.options.names import Name
from ncbench.cli.options.parameters import FOLDER
from ncbench.cli.options.parameters import as_json as json_option
from ncbench.errors import UserError


@click.group()
def data() -> None:
    """Datasets."""


@data.command("list")
@json_option
def list_datasets(as_json: bool) -> None:
    """List the datasets that can be named after --dataset."""
    from ncbench.data.imported.local_store import stored
    from ncbench.data.registry import KIND, dataset_source
    from ncbench.plugins.discovery import Described, described

    found = list_plugins(described(KIND, dataset_source, lambda source: str(source.summary)))
    found += [Described(one.name, one.summary, None, one) for one in stored()]
    rows = [(each.name, None if each.loaded is None else each.loaded.needs_root, each.summary) for each in found]
    if as_json:
        print_json([{"name": name, "summary": summary, "needs_root": needs} for name, needs, summary in rows])
        return
    needed = {True: "--data-root DIR", False: "nothing", None: ""}
    cells = [(name, needed[needs], summary) for name, needs, summary in rows]
    print_plugins("Datasets", ("name", "needs", "what it is"), cells, found)


@data.command("check")
@click.argument("name", metavar="NAME_OR_FILE", type=Name("datasets"))
@click.option("--data-root", type=parameters.FOLDER, help="Where the files of released datasets lie.")
@json_file
def check_dataset_command(name: str, data_root: Path | None, json_path: Path | None) -> None:
    """Check whether a dataset can be trained and tested on: its splits, features, captions and digest.

    Ends with exit code 1 if a check fails.
    """
    from ncbench.data.registry import dataset_source

    source = dataset_source(name)

    from ncbench.checks.data import check_source

    show_verdicts(f"Conformance of the dataset {source.name}", check_source(source, data_root), json_path)


@data.command("vocab")
@click.argument("captions", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Where to write it (JSON).")
@click.option(
    "--min-count",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="How often a word must occur to be known; 4 as published.",
)
@click.option("--force", is_flag=True, help="Write over a file that exists.")
def vocab(captions: tuple[Path, ...], out: Path, min_count: int, force: bool) -> None:
    """Build a vocabulary of new captions, as those of the released files were built.

    CAPTIONS are files with a caption per line, or .tsv files of image id, tab, caption: those of train and dev.
    """
    from collections import Counter

    from ncbench.data.captions_file import read_captions
    from ncbench.data.tokenise import Tokeniser
    from ncbench.data.vocabulary import Vocabulary
    from ncbench.runtime.files import check_absent

    if any(out.exists() and out.samefile(path) for path in captions):
        raise UserError(f"--out {out} is one of the captions' own files; choose another.")
    if not force:
        check_absent([out])
    tokeniser = Tokeniser()
    texts = [text for path in captions for text in read_captions(path, tabbed=path.suffix == ".tsv")]
    if not texts:
        raise UserError(f"{', '.join(map(str, captions))}: no captions; give a file with one per line.")
    counts = Counter(word for text in texts for word in tokeniser(text))
    vocabulary = Vocabulary.of_counts(counts, min_count)
    vocabulary.write(out)
    tokeniser.warn()
    unknown = sum(count for word, count in counts.items() if word not in vocabulary.words)
    share = unknown / max(1, counts.total())
    click.echo(
        f"{len(vocabulary):,} words of {len(texts):,} captions are in {out}; {share:.1%} of all words are unknown."
    )


@data.command("featurize")
@click.option("--images", required=True, help="A folder of pictures, or hf:NAME_OR_PATH of a data set that has some.")
@click.option(
    "--captions",
    required=True,
    help="A file of rows: picture, tab, caption, and perhaps tab, split; for a data set, the column of captions.",
)
@click.option("--image-column", metavar="COL", help="Of a data set: the column of pictures.  [default: the only one]")
@click.option(
    "--model",
    default="builtin",
    show_default=True,
    help="What makes the features: builtin, timm:NAME, or transformers:NAME_OR_FOLDER.",
)
@click.option("--name", help="What --dataset shall call the data set.  [default: made of --images]")
@json_option
def featurize(
    images: str, captions: str, image_column: str | None, model: str, name: str | None, as_json: bool
) -> None:
    """Make a data set of pictures: features, captions and the pictures, in the local store.

    What has no split is for training; dev and test, where there are none, are a tenth of that each.
    """
    from ncbench.data.imported.request import picture_request
    from ncbench.data.registry import check_dataset, load_dataset

    text = picture_request(images, captions, image_column or "", model, name or "")
    check_dataset(text)
    dataset = load_dataset(text, None)
    sizes = {split: len(part.images) for split, part in dataset.splits.items()}
    if as_json:
        print_json({"name": dataset.name, "digest": dataset.digest, "images": sizes})
        return
    shape = f"{dataset.n_regions} regions of {dataset.image_dim} dimensions"
    counts = ", ".join(f"{count:,} {split}" for split, count in sizes.items())
    click.echo(f"{dataset.name}: {counts} images, {shape}. Use it: ncbench run --dataset {dataset.name}")


@data.command("prepare")
@click.argument("name")
@click.option(
    "--from", "root", type=FOLDER, required=True, help="The folder above NAME_precomp, or that folder itself."
)
@click.option("--half", type=FOLDER, help="Write a copy there whose features are float16, for --data-root.")
@click.option(
    "--dev-rule",
    type=click.Choice(["standard", "ncr"]),
    default="standard",
    show_default=True,
    help="Which part of dev to tell of; runs take the same option.",
)
@json_option
def prepare_files(name: str, root: Path, half: Path | None, dev_rule: str, as_json: bool) -> None:
    """Check the released files of f30k, coco or cc152k, whole, and record their digests.

    What is missing is named, with where the field gets it. Half precision halves what is read from disk.
    """
    from ncbench.data.precomp import PrecompSource
    from ncbench.data.prepare import prepare
    from ncbench.data.registry import DEV_RULE, dataset_source
    from ncbench.errors import UserError

    source = dataset_source(name if dev_rule == "standard" else f"{name}{DEV_RULE}{dev_rule}")
    if not isinstance(source, PrecompSource):
        raise UserError(f"{name} has no released files to prepare; right would be f30k, coco or cc152k")
    found = prepare(source, root, half, lambda words: click.echo(words, err=True))
    dev = source.load_split(root, "dev").splits["dev"]
    told = f"dev is {len(dev.images):,} images with {len(dev.captions):,} captions ({dev_rule} rule)"
    if as_json:
        files = [{"path": str(f.path), "shape": f.shape, "sha256": f.digest, "departs": f.departs} for f in found]
        print_json({"dataset": name, "files": files, "dev_images": len(dev.images), "dev_captions": len(dev.captions)})
        return
    rows = [(f.path.name, f.shape, f.digest[:12], f.departs or "as published") for f in found]
    print_table(f"{name} in {root}", ("file", "holds", "SHA-256", "size"), rows)
    rule = "" if dev_rule == "standard" else f" --dev-rule {dev_rule}"
    click.echo(f"All files are sound; {told}. Use them: ncbench run --dataset {name} --data-root {half or root}{rule}")
