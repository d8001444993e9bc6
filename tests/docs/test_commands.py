"""Runs every command in the documentation and the README on tiny data, page by page and in order."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pages import PAGES, Block, blocks
from painted import Painted
from PIL import Image
from places import FIXTURES, ROOT
from planted import write_inputs
from rows import write_folder

from ncbench.cli import main
from ncbench.data.dataset import Dataset
from ncbench.data.scene_vectors.source import ScenesVectors
from ncbench.data.scenes.source import Scenes
from ncbench.method.scaffold import method_files
from ncbench.sweeps import device_speed

CHECKPOINTS = ("model_best.pth.tar", "SGR.pth.tar", "SAF.pth.tar")
SMALL = {
    "f30k": "--set backbone.embed=16 --set backbone.word=8 --set backbone.similarity=8 --budget 0.3 --evaluations 1",
    "scenes": "--budget 4 --evaluations 1",
}
"""Options that make runs short. A budget on the page is replaced by a small one of the same kind."""
BUDGETS = {"paper": "1own-epochs", "2h": "1s"}
SKIPPED_COMMANDS = ("pip install -e .", "make demo", "make test")
"""Commands that are not part of ncbench; `make` runs this test. Sweeps on Slurm are run by tests/slurm."""


def is_shell(block: Block) -> bool:
    return block.language == "sh" or (block.language == "" and block.text.startswith(("ncbench ", "make ")))


@pytest.fixture
def desk(page: Path, tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working directory with the files that pages name; `scenes` is a tiny dataset here."""
    # Pictures make reports slow, so only pages that ask for them have them.
    pictures = Painted() if "--pictures" in page.read_text() else None
    for source in (Scenes, ScenesVectors):
        monkeypatch.setattr(source, "load", lambda self, *_: replace(tiny, name=self.name, pictures=pictures))
    monkeypatch.setattr(device_speed, "SETTINGS", [replace(device_speed.SETTINGS[0], batch=8, images=16)])
    monkeypatch.setattr(device_speed, "SECONDS", 0.1)
    monkeypatch.chdir(tmp_path)
    for name in CHECKPOINTS:
        shutil.copy(FIXTURES / "published_sgr" / "official_sgr.pth.tar", tmp_path / name)
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))
    write_folder(tmp_path / "pairs")
    columns = 'source = "pairs"\nimage-features = "regions"\ncaptions = "captions"\n'
    (tmp_path / "my.toml").write_text(columns)
    (tmp_path / "pictures").mkdir()
    rows = []
    for number in range(12):
        Image.new("RGB", (32, 32), (20 * number, 255 - 20 * number, 90)).save(tmp_path / f"pictures/{number}.png")
        rows.append(f"{number}.png\ta patch of colour {number}\n")
    (tmp_path / "FILE.tsv").write_text("".join(rows))
    if page.stem in ("clean-my-data", "README"):
        write_inputs(tmp_path)
    for name in ("train.txt", "dev.txt"):
        (tmp_path / name).write_text("a patch of red\na patch of blue\n")
    (tmp_path / "sweep.toml").write_text('method = ["triplet"]\nnoise = [0.4]\n')
    (tmp_path / "my_method.py").write_text(method_files("my_method")["my_method.py"])
    for name, ratio in (("f30k_noise_0.4.npy", 0.4), ("noise_index.npy", 0.4)):
        moved = np.arange(round(40 * ratio))
        np.save(tmp_path / name, np.concatenate([np.roll(moved, 1), np.arange(len(moved), 40)]))
    return tmp_path


def words_of(command: str, desk: Path) -> Iterator[str]:
    """Yield the words of a command with its placeholders filled in, and options that make it short."""
    data = FIXTURES / ("published_sgr" if command.startswith("ncbench eval") else "f30k")
    _, *words = shlex.split(command)
    for before, word in zip(["", *words], words, strict=False):
        if word == "DIR":
            places = {"--data-root": data, "--from": data, "--images": desk / "pictures"}
            yield str(places.get(before, desk / "somewhere"))
        elif word == "COL":
            yield {"--image-features": "regions", "--captions": "captions", "--text-features": "said"}[before]
        elif word == "hf:PATH":
            yield f"hf:{desk / 'pairs'}"
        elif word == "FILE":
            yield str(next(desk.glob("leaderboards/submissions/*.json")))
        elif word.endswith("/ID"):
            yield str(next(path.parent for path in sorted(desk.glob(f"{word[:-2]}*/result.json"))))
        elif before == "--seed":
            yield ",".join(word.split(",")[:2])
        elif before == "--budget":
            yield BUDGETS.get(word, word)
        else:
            yield word
    if words[0] == "clean" and "--epochs" not in words and "--scorers" not in words:
        yield from ("--scorers", "linear,neighbours")
    if words[0] == "run":
        small = shlex.split(SMALL["f30k" if "f30k" in words else "scenes"])
        if "--budget" in words:
            place = small.index("--budget")
            del small[place : place + 2]
        yield from [*small, "--jobs", "1", *(() if "--backbone" in words else ("--backbone", "vse"))]
        methods = words[words.index("--method") + 1].split(",") if "--method" in words else ()
        for method in methods:
            yield from ("--set", f"{Path(method).stem}.batch_size=8")


README = ROOT / "README.md"


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda path: path.stem)
def test_commands_of(page: Path, desk: Path) -> None:
    for block in blocks(page):
        if block.title:
            path = desk / block.title
            assert path.parent.is_dir(), f"no command on the page has created the folder of {block.title}"
            path.write_text(block.text)
        for command in block.commands if is_shell(block) else ():
            if command in SKIPPED_COMMANDS or "--launcher slurm" in command:
                continue
            assert command.startswith("ncbench "), command
            result = CliRunner().invoke(main, list(words_of(command, desk)))
            # The tiny dataset is refused: it has fewer images than R@10 needs.
            expected = 1 if command == "ncbench data check scenes" else 0
            assert result.exit_code == expected, f"{command}\n{result.output}"
            assert "Warning" not in result.stderr, f"{command}\n{result.stderr}"


def test_commands_are_found() -> None:
    """No page hides commands from the test above in another kind of block."""
    for page in (README, *PAGES):
        for block in blocks(page):
            assert is_shell(block) or "ncbench run" not in block.text, page
    assert sum(len(block.commands) for page in PAGES for block in blocks(page) if is_shell(block)) > 30
