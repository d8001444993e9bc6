"""`ncbench data`: list, check and create datasets."""

from __future__ import annotations

from pathlib import Path

import click

from ncbench.cli.display.listing import list_plugins, print_plugins
from ncbench.cli.display.output import print_json, print_table
from ncbench.cli.display.verdicts import CheckCommand, show_verdicts
from ncbench.cli.options import parameters
from ncbench.cli.options.names import Name
from ncbench.cli.options.parameters import FOLDER
from ncbench.cli.options.parameters import as_json as json_option
from ncbench.errors import UserError


@click.group()
def data() -> None:
    """List, check and create datasets."""


@data.command("list")
@json_option
def list_datasets(as_json: bool) -> None:
    """List available datasets."""
    from ncbench.data.imported.local_store import stored_datasets
    from ncbench.data.registry import KIND, dataset_source
    from ncbench.data.same_names import told_apart
    from ncbench.plugins.discovery import Described, describe_plugins

    found = list_plugins(describe_plugins(KIND, dataset_source, lambda source: str(source.summary)))
    stored = {(one.name, one.digest): one for one in stored_datasets()}.values()
    labels = told_apart((one.name, one.digest) for one in stored)
    found += [Described(labels[one.name, one.digest], one.summary, None, one) for one in stored]
    rows = [(each.name, None if each.loaded is None else each.loaded.needs_root, each.summary) for each in found]
    if as_json:
        print_json([{"name": name, "summary": summary, "needs_root": needs} for name, needs, summary in rows])
        return
    required = {True: "--data-root", False: "-", None: "?"}
    cells = [(name, required[needs], summary) for name, needs, summary in rows]
    print_plugins("Datasets", ("name", "requires", "description"), cells, found)


@data.command("check", cls=CheckCommand)
@click.argument("name", metavar="NAME_OR_FILE", type=Name("datasets"))
@parameters.data_root
@json_option
def check_dataset_command(name: str, data_root: Path | None, as_json: bool) -> None:
    """Check that a dataset can be used for training and testing.

    Checks its splits, features, captions and digest. Exits with code 1 if a check fails.
    """
    from ncbench.data.registry import dataset_source

    source = dataset_source(name)

    from ncbench.checks.data import check_source

    show_verdicts(f"Checks of dataset {source.name}", check_source(source, data_root), as_json)


tokenizer_option = click.option(
    "--tokenizer",
    metavar="FILE|NAME",
    default="",
    help="Split captions by a tokenizer.json, its folder, or a model on the hub, instead of at spaces.",
)


@data.command("vocab")
@click.argument("captions", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="JSON file to write.")
@click.option(
    "--min-count",
    type=click.IntRange(min=1),
    metavar="N",
    default=4,
    show_default=True,
    help="Minimum number of occurrences of a word. Published vocabularies use 4.",
)
@tokenizer_option
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def vocab(captions: tuple[Path, ...], out: Path, min_count: int, tokenizer: str, force: bool) -> None:
    """Build a vocabulary from caption files.

    CAPTIONS are text files with one caption per line, or .tsv files with an image id and a caption per line. Use the
    captions of train and dev, as the published vocabularies do.
    """
    from collections import Counter

    from ncbench.data.captions_file import read_captions
    from ncbench.data.model_tokeniser import ModelTokeniser
    from ncbench.data.tokenise import Tokeniser
    from ncbench.data.vocabulary import Vocabulary
    from ncbench.runtime.files import check_absent

    if any(out.exists() and out.samefile(path) for path in captions):
        raise UserError(f"--out {out} is one of the caption files; choose another path.")
    if not force:
        check_absent([out])
    tokeniser = ModelTokeniser(tokenizer) if tokenizer else Tokeniser()
    texts = [text for path in captions for text in read_captions(path, tabbed=path.suffix == ".tsv")]
    if not texts:
        raise UserError(f"{', '.join(map(str, captions))}: no captions found; expected one per line.")
    counts = Counter(word for text in texts for word in tokeniser(text))
    vocabulary = Vocabulary.of_counts(counts, min_count)
    vocabulary.write(out)
    tokeniser.warn()
    unknown = sum(count for word, count in counts.items() if word not in vocabulary.words)
    share = unknown / max(1, counts.total())
    click.echo(
        f"wrote {len(vocabulary):,} words from {len(texts):,} captions to {out}; {share:.1%} of all words are unknown"
    )


@data.command("featurize")
@click.option(
    "--images", required=True, metavar="PATH", help="Image folder, or hf:NAME_OR_PATH of a dataset with images."
)
@click.option(
    "--captions",
    required=True,
    metavar="FILE|COL",
    help="Tab-separated file with image, caption and, optionally, split per line. For hf:...: the caption column.",
)
@click.option("--image-column", metavar="COL", help="For hf:...: the image column.  [default: the only image column]")
@click.option(
    "--model",
    metavar="MODEL",
    default="builtin",
    show_default=True,
    help="Feature extractor: builtin, timm:NAME or transformers:NAME_OR_FOLDER.",
)
@click.option("--name", metavar="NAME", help="Name of the new dataset.  [default: derived from --images]")
@click.option(
    "--truth",
    type=click.Choice(["known", "unknown"]),
    default="known",
    show_default=True,
    help="unknown: some pairs are mismatched, and nobody knows which. Runs then use --noise natural.",
)
@tokenizer_option
@click.option("--skip-bad", is_flag=True, help="Leave out pictures that cannot be read, and list them at the end.")
@json_option
def featurize(
    images: str,
    captions: str,
    image_column: str | None,
    model: str,
    name: str | None,
    truth: str,
    tokenizer: str,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Create a dataset from images and captions.

    Extracts image features and saves them with the captions and images in the local store. Rows without a split go to
    train. If there is no dev or test split, a tenth of train is set aside for each.
    """
    from ncbench.cli.display.skipped import print_skipped
    from ncbench.data.imported.request import picture_request
    from ncbench.data.imported.source import skipped_of
    from ncbench.data.registry import check_dataset, load_dataset

    text = picture_request(
        images, captions, image_column or "", model, name or "", truth == "known", skip_bad, tokenizer
    )
    check_dataset(text)
    dataset = load_dataset(text, None)
    skipped = skipped_of(text)
    sizes = {split: len(part.images) for split, part in dataset.splits.items()}
    if as_json:
        skips = {} if skipped is None else {"skipped": list(skipped[1]), "skipped_file": str(skipped[0])}
        print_json({"name": dataset.name, "digest": dataset.digest, "images": sizes, **skips})
        return
    if skipped is not None:
        print_skipped(*skipped)
    shape = f"{dataset.n_regions} regions of {dataset.image_dim} dimensions"
    counts = ", ".join(f"{count:,} {split}" for split, count in sizes.items())
    natural = "" if dataset.truth_known else " --noise natural"
    click.echo(f"{dataset.name}: {counts} images, {shape}. Use it with: ncbench run --dataset {dataset.name}{natural}")


@data.command("prepare")
@click.argument("name")
@click.option("--from", "root", type=FOLDER, required=True, help="The NAME_precomp folder, or its parent.")
@click.option("--half", type=FOLDER, help="Write a copy with float16 features to this folder, for use as --data-root.")
@click.option(
    "--dev-rule",
    type=click.Choice(["standard", "ncr"]),
    default="standard",
    show_default=True,
    help="Dev split to report the size of; see ncbench run --help.",
)
@json_option
def prepare_files(name: str, root: Path, half: Path | None, dev_rule: str, as_json: bool) -> None:
    """Check released dataset files and record their digests.

    NAME is f30k, coco or cc152k. Reads every file completely, and lists missing files with their download sources.
    --half halves the amount of data that training reads from disk.
    """
    from ncbench.data.precomp import PrecompSource
    from ncbench.data.prepare import prepare
    from ncbench.data.registry import DEV_RULE_MARK, dataset_source
    from ncbench.errors import UserError

    source = dataset_source(name if dev_rule == "standard" else f"{name}{DEV_RULE_MARK}{dev_rule}")
    if not isinstance(source, PrecompSource):
        raise UserError(f"{name} has no released files to prepare; expected f30k, coco or cc152k")
    found = prepare(source, root, half, lambda words: click.echo(words, err=True))
    dev = source.load_split(root, "dev").splits["dev"]
    dev_size = f"dev has {len(dev.images):,} images with {len(dev.captions):,} captions ({dev_rule} rule)"
    if as_json:
        files = [{"path": str(f.path), "shape": f.shape, "sha256": f.digest, "departs": f.deviation} for f in found]
        print_json({"dataset": name, "files": files, "dev_images": len(dev.images), "dev_captions": len(dev.captions)})
        return
    rows = [(f.path.name, f.shape, f.digest[:12], f.deviation or "as published") for f in found]
    print_table(f"{name} in {root}", ("file", "content", "SHA-256", "size"), rows)
    rule = "" if dev_rule == "standard" else f" --dev-rule {dev_rule}"
    command = f"ncbench run --dataset {name} --data-root {half or root}{rule}"
    click.echo(f"All files are valid; {dev_size}. Use them with: {command}")
