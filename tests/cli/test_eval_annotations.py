"""`ncbench eval --annotations`: all that fits by public annotations of MS-COCO."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from coco_package import install_annotations

from ncbench.data.dataset import Dataset
from ncbench.evaluation.fitting import evaluate_fitting


def test_runs_are_scored_by_annotations(
    toy_run: Callable[..., Result],
    cli: Callable[..., Result],
    tiny: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert toy_run("--method", "quick", "--noise", 0.4, "--evaluations", 1).exit_code == 0
    (run,) = (tmp_path / "runs/tiny/quick").iterdir()
    install_annotations(
        tmp_path / "site",
        monkeypatch,
        range(500, 516),
        [50 + row // 2 for row in range(16)],
        eccv_image_to_caption={50: [500, 503], 53: [515]},
        eccv_caption_to_image={509: [54, 51]},
    )
    (tmp_path / "ids.txt").write_text("".join(f"{each}\n" for each in range(50, 58)))
    words = ("eval", "--checkpoint", run, "--dataset", "tiny", "--device", "cpu", "--coco-ids", tmp_path / "ids.txt")
    out = tmp_path / "similarities.npy"
    found = cli(*words, "--annotations", "eccv", "--similarities", out, "--json")
    assert found.exit_code == 0, found.output
    true, scores = tiny.splits["test"].true, np.load(out)
    content = json.loads(found.stdout)["eccv"]
    assert content["i2t"] == vars(evaluate_fitting(scores, true, [0, 3, 15], [0, 0, 3]).i2t)
    assert content["t2i"] == vars(evaluate_fitting(scores, true, [9, 9], [4, 1]).t2i)
    shown = cli(*words, "--annotations", "eccv")
    assert "All that fits by ECCV Caption, in %" in shown.stdout
    assert f"{content['t2i']['map_at_r']:.1f}" in shown.stdout
    alone = cli(*words)
    assert alone.exit_code == 2
    assert "--annotations and --coco-ids FILE belong together" in alone.stderr
