"""Small data sets in the forms that `datasets` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

WORDS = ("red", "green", "blue", "round", "flat", "tall")


def make_rows(
    count: int, seed: int = 0, regions: int = 3, dim: int = 6, dtype: Any = np.float32
) -> dict[str, list[Any]]:
    """Return columns of `count` images: id, regions, vector, two captions each and a vector of each caption."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, regions, dim)).astype(dtype)
    said = rng.integers(len(WORDS), size=(count, 2, 3))
    return {
        "id": [f"{seed}-{row}" for row in range(count)],
        "regions": features.tolist(),
        "vector": features[:, 0].tolist(),
        "captions": [[" ".join(WORDS[word] for word in one) for one in each] for each in said],
        "said": rng.normal(size=(count, 2, 4)).astype(np.float32).tolist(),
    }


def types(dtype: Any = None) -> dict[str, Any]:
    """Return the Arrow types of the columns of `make_rows`."""
    number = dtype or pa.float32()
    return {
        "id": pa.string(),
        "regions": pa.list_(pa.list_(number)),
        "vector": pa.list_(number),
        "captions": pa.list_(pa.string()),
        "said": pa.list_(pa.list_(pa.float32())),
    }


def table_of(columns: dict[str, list[Any]], **changed: Any) -> Any:
    """Return an Arrow table of some columns of `make_rows`, of types `changed` from the usual ones."""
    kinds = {**types(), **changed}
    return pa.table({name: pa.array(values, kinds.get(name)) for name, values in columns.items()})


def write_parquet(path: Path, columns: dict[str, list[Any]], **changed: Any) -> Path:
    """Write such a table as parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table_of(columns, **changed), path, row_group_size=50)
    return path


def write_folder(folder: Path, sizes: dict[str, int] | None = None) -> Path:
    """Write `{split}.parquet` for each of `sizes` into `folder`."""
    for seed, (split, count) in enumerate((sizes or {"train": 30, "dev": 8, "test": 10}).items()):
        write_parquet(folder / f"{split}.parquet", make_rows(count, seed))
    return folder
