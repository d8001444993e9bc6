"""Converting a source into the local store. The source is read once, in batches, and never held in memory.

A folder of the store contains `manifest.json`, `vocabulary.json`, and per split

* `features.npy`: (images, R, D), float32, or float16 if the source has it;
* `captions.jsonl`: one text per line; `true.npy`: the image that each caption describes;
* `tokens.npy` and `lengths.npy`: the concatenated word ids of all captions; or `vectors.npy`: (captions, T);
* `pictures.bin` and `pictures.npy`: the encoded pictures, and the end of each;
* `origins.jsonl`: where each image comes from.

`skipped.txt` lists the pictures that were left out, if there are any.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector
from ncbench.data.imported.image_rows import Repeats, images_of, joined
from ncbench.data.imported.layout import MANIFEST_FILE, SKIPPED_FILE, STORE_FORMAT, VOCABULARY_FILE
from ncbench.data.imported.pictures import SkippedPictures, write_skipped
from ncbench.data.imported.reading import read_texts
from ncbench.data.imported.request import Request
from ncbench.data.imported.row_reader import RowReader
from ncbench.data.imported.split_names import SPLITS
from ncbench.data.imported.split_plan import plan_splits, used_splits
from ncbench.data.imported.split_writer import SplitWriter
from ncbench.data.imported.tables import Table
from ncbench.data.model_tokeniser import ModelTokeniser
from ncbench.data.token_cache import token_ids
from ncbench.data.tokenise import Tokeniser
from ncbench.data.vocabulary import Vocabulary
from ncbench.errors import UserError
from ncbench.runtime.files import write_json


def convert(request: Request, tables: Mapping[str, Table], root: Path | None, folder: Path) -> None:
    """Convert the dataset that `request` describes, from the `tables` of its source, and write it to `folder`.

    Paths of pictures are relative to `root`. Raises UserError for missing columns and invalid rows.
    """
    skipped = SkippedPictures(request.skip_bad)
    reader = RowReader.of(request, next(iter(tables.values())), root, skipped)
    used = used_splits(request, [*tables])
    images = images_of(request, {name: tables[name] for name in used})
    plan = plan_splits(request, used, {name: int(numbers.max(initial=-1)) + 1 for name, numbers in images.items()})
    splits = _write_splits(request, tables, folder, reader, plan, images)
    if skipped.lines:
        write_skipped(folder / SKIPPED_FILE, skipped.lines)
    vocabulary, tokeniser = _tokenise(request, folder, reader.text_features != "")
    facts = [json.dumps(splits, sort_keys=True), vocabulary.digest, *(_token_fact(folder / split) for split in SPLITS)]
    facts += [tokeniser.digest] if tokeniser.digest else []
    manifest = {
        "format": STORE_FORMAT,
        "name": request.title,
        "source": request.source,
        "columns": {key: value for key, value in vars(request).items() if isinstance(value, str) and value},
        "drawn": [split for split in SPLITS if split not in used.values()],
        "splits": splits,
        "truth_known": request.truth_known,
        "like": request.like,
        "doubtful": tokeniser.doubtful,
        "tokenizer_digest": tokeniser.digest,
        "digest": hashlib.sha256("\n".join(facts).encode()).hexdigest(),
    }
    write_json(folder / MANIFEST_FILE, manifest)


def _write_splits(
    request: Request,
    tables: Mapping[str, Table],
    folder: Path,
    reader: RowReader,
    plan: Mapping[str, NDArray[np.int8]],
    images: Mapping[str, IntVector],
) -> dict[str, dict[str, Any]]:
    """Write features, captions, pictures and origins. Return the manifest's entry for each split.

    `plan` is what `plan_splits` returns; `images` numbers the image of each row.
    """
    repeats = Repeats(request)
    sizes = {split: sum(int((owner == n).sum()) for owner in plan.values()) for n, split in enumerate(SPLITS)}
    with ExitStack() as stack:
        writers = {split: stack.enter_context(SplitWriter(folder / split, sizes[split])) for split in SPLITS}
        for name, owner in plan.items():
            table, first = tables[name], 0
            read = reader.read(table)
            for rows in joined(read, images[name], table) if request.ids else read:
                stop = first + len(rows.captions)
                for number, split in enumerate(SPLITS):
                    chosen = owner[first:stop] == number
                    mine = rows.take(np.flatnonzero(chosen if rows.bad is None else chosen & ~rows.bad))
                    writers[split].add(mine, table.place(min(first, table.n_rows - 1)))
                    repeats.add(split, mine)
                first = stop
            if first != len(owner):
                raise UserError(f"{request.source}: found {first} images in {name!r}, expected {len(owner)}")
    for split, writer in writers.items():
        if not writer.n_images:
            raise UserError(f"{request.source}: no picture of {split} can be read ({reader.skipped.lines[0]})")
    repeats.tell()
    splits = {split: writer.facts for split, writer in writers.items()}
    if len({(*facts["shape"][1:], facts["dtype"], facts["vector"]) for facts in splits.values()}) > 1:
        found = ", ".join(f"{split} {facts['shape'][1:]} {facts['dtype']}" for split, facts in splits.items())
        raise UserError(f"{request.source}: features must have the same shape in all splits, found {found}")
    return splits


def _tokenise(request: Request, folder: Path, has_vectors: bool) -> tuple[Vocabulary, Tokeniser]:
    """Write vocabulary and word ids. Return the vocabulary, and the tokeniser of all captions."""
    if has_vectors:  # words are not needed
        vocabulary = Vocabulary.build([], 1)
        vocabulary.write(folder / VOCABULARY_FILE)
        return vocabulary, Tokeniser()
    model = ModelTokeniser(request.tokenizer) if request.tokenizer else None
    stated = Vocabulary.read(Path(request.vocabulary)) if request.vocabulary else None
    tokeniser = model or Tokeniser(stated.abbreviations if stated else ())
    vocabulary = stated or _build_vocabulary(folder, tokeniser, request.min_count)
    vocabulary.write(folder / VOCABULARY_FILE)
    tokeniser = model or Tokeniser(vocabulary.abbreviations)
    for split in SPLITS:
        tokens, lengths = token_ids(read_texts(folder / split), vocabulary, tokeniser)
        np.save(folder / split / "tokens.npy", tokens.astype("<i4"))
        np.save(folder / split / "lengths.npy", lengths.astype("<i4"))
    tokeniser.warn()
    return vocabulary, tokeniser


def _build_vocabulary(folder: Path, tokeniser: Callable[[str], Sequence[str]], threshold: int) -> Vocabulary:
    """Return the words that occur at least `threshold` times in train and dev, as in published vocabularies."""
    counts = Counter(
        word for split in ("train", "dev") for text in read_texts(folder / split) for word in tokeniser(text)
    )
    return Vocabulary.of_counts(counts, threshold)


def _token_fact(folder: Path) -> str:
    path = folder / "tokens.npy"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
