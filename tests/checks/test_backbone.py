"""Checks of backbones: built-in ones pass, and every violation fails its own check."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from toy_backbones import FUNCTIONS, LAYERS, write_backbone

from ncbench.checks.backbone.suite import CHECKS, check_backbone_named
from ncbench.checks.shapes import Shapes
from ncbench.cli import main
from ncbench.data.dataset import Dataset

Change = tuple[str, str]
NORMALISED = "return Encoded((normalize(vectors, dim=-1),))"
PAIRS = "    def _score_each(self, images, captions):\n        return (images.parts[0] * captions.parts[0]).sum(1)"
WORDS = "self.embedding(tokens).sum(1) / lengths[:, None].to(tokens.device)"

BROKEN: dict[str, tuple[list[Change], str, str]] = {
    "name": ([('"means"', '"me ans"')], "", "'me ans' is not a valid name"),
    "nothing to train": ([(LAYERS, "        self.requires_grad_(False)\n")], "builds", "it has no weights to train"),
    "no Encoded": (
        [(NORMALISED, "return normalize(vectors, dim=-1)")],
        "shapes",
        "_encode_images returned Tensor, expected Encoded",
    ),
    "too few images": (
        [(NORMALISED, "return Encoded((normalize(vectors, dim=-1)[:1],))")],
        "shapes",
        "_encode_images returned tensors of [1] items for 8",
    ),
    "double": (
        [(FUNCTIONS, "    def _score(self, *pair):\n        return super()._score(*pair).double()")],
        "shapes",
        "_score returned torch.float64 (8, 5), expected torch.float32 (8, 5)",
    ),
    "lengths": (
        [(FUNCTIONS, "    def _lengths(self, captions):\n        return [0]")],
        "shapes",
        "_lengths returned 1 lengths for 8 captions",
    ),
    "NaN": ([("vectors = ", "vectors = 0 / 0 * torch.ones(()) + ")], "", "division by zero"),
    "infinite": ([("vectors = ", "vectors = torch.inf * ")], "finite", "of 64 similarities are not finite"),
    "constant": (
        [("vectors = ", "vectors = 0 * "), (NORMALISED, "return Encoded((vectors + 0.1,))"), (WORDS, f"0 * {WORDS}")],
        "finite",
        "whatever the image and the caption",
    ),
    "range": (
        [('    name = "means"', '    name = "means"\n    IN_UNIT_INTERVAL = True')],
        "finite",
        "IN_UNIT_INTERVAL is set, but similarities are from -",
    ),
    "statistics of the batch": (
        [(NORMALISED, "return Encoded((normalize(vectors - vectors.mean(0), dim=-1),))")],
        "independent",
        "in a batch of one",
    ),
    "padding": (
        [(", padding_idx=0", ""), (WORDS, "self.embedding(tokens).mean(1)")],
        "independent",
        "in a batch of one",
    ),
    "diagonal": (
        [(FUNCTIONS, PAIRS.replace(".sum(1)", ".sum(1) ** 2"))],
        "diagonal",
        "_score_each differs from the diagonal of _score by",
    ),
    "weights that are not used": (
        [(LAYERS, "        self.unused = nn.Linear(2, 2)\n")],
        "gradients",
        "do not depend on unused.weight, which can be trained",
    ),
    "detached": (
        [("vectors = self.region(images)", "vectors = self.region(images).detach()")],
        "gradients",
        "do not depend on region.weight, which can be trained",
    ),
    "formula": (
        [(FUNCTIONS, "    def image_work(self, n_regions):\n        return 100")],
        "costs",
        "image_work is 100 FLOPs, but torch counts 1,056 for one more and 1,056 each",
    ),
    "generous formula": (
        [(FUNCTIONS, "    def caption_work(self, length):\n        return 100_000")],
        "costs",
        "is 100,000 FLOPs, but torch counts 256",
    ),
    "frozen layers": (
        [
            (LAYERS, "        self.tower = nn.Linear(sizes.image_dim, 1000).requires_grad_(False)\n"
                     "        self.down = nn.Linear(1000, sizes.embed)\n"
                     "        self.tower_two = nn.Linear(1000, 1000).requires_grad_(False)\n"),
            ("self.region(images)", "(self.region(images) + self.down(self.tower_two(self.tower(images))))"),
            (FUNCTIONS, "    def image_work(self, n_regions):\n        return super().image_work(n_regions)"),
        ],
        "update-cost",
        "are there frozen layers?",
    ),
    "work that no formula counts": (
        [
            (LAYERS, "        self.wide = nn.Linear(sizes.embed, 900)\n"
                     "        self.back = nn.Linear(900, sizes.embed)\n"),
            (NORMALISED, "vectors = vectors + self.back(self.wide(vectors)) if self.training else vectors\n        "
                         + NORMALISED),
        ],
        "update-cost",
        "for more pairs in an update, torch counts",
    ),
    "randomness of its own": (
        [(LAYERS, "        own = torch.Generator().manual_seed(len(CALLS))\n"
                  "        torch.nn.init.normal_(self.region.weight, generator=own)\n"
                  "        CALLS.append(1)\n")],
        "seeded",
        "two networks built with the same seed differ in region.weight",
    ),
    "state outside of state_dict": (
        [
            (LAYERS, "        self.register_buffer('shift', torch.randn(sizes.embed), persistent=False)\n"),
            (NORMALISED, "return Encoded((normalize(vectors + self.shift, dim=-1),))"),
        ],
        "state",
        "some state is not in state_dict",
    ),
    "whole numbers": (
        [(LAYERS, "        self.register_buffer('positions', torch.arange(5))\n")],
        "state",
        "the state has positions of torch.int64; records hold floating-point weights only",
    ),
    "shared weights": (
        [(LAYERS, "        self.again = self.caption\n")],
        "state",
        "its weights cannot be written as safetensors",
    ),
    "within": (
        [(FUNCTIONS, "    def _score_images(self, images, others):\n        return self._score(images, others).T")],
        "within",
        "_score_images returned torch.float32 (5, 8), expected torch.float32 (8, 5)",
    ),
    "head": (
        [('    name = "means"', '    name = "means"\n    ABILITIES = frozenset({"within", "head"})')],
        "head",
        "with a head of 4 units, `head` is NoneType, expected a module",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def shapes() -> Dataset:
    return Shapes().load()


@pytest.fixture
def check() -> Callable[..., Result]:
    """Return a function that calls `ncbench backbones check`."""
    return lambda *words: CliRunner().invoke(main, ["backbones", "check", *words])


@pytest.mark.parametrize("name", ["sgr", "scan", "vse-infinity"])
def test_built_in_backbones_pass(name: str, shapes: Dataset) -> None:
    verdicts = list(check_backbone_named(name, shapes))
    assert [verdict.check for verdict in verdicts] == [check.name for check in CHECKS]
    assert {verdict.outcome for verdict in verdicts} <= {"pass", "skipped"}, verdicts


def test_a_plugin_passes(check: Callable[..., Result], tmp_path: Path) -> None:
    result = check(write_backbone(tmp_path / "means.py"), "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["subject"], found["failed"]) == ("Checks of backbone means", 0)
    details = {verdict["check"]: verdict["detail"] for verdict in found["verdicts"]}
    assert details["builds"] == "456 weights to train, 0 frozen"
    assert details["costs"] == "measured; 1.00 to 1.00 of what torch counts"


@pytest.mark.parametrize("how", BROKEN)
def test_every_violation_fails_its_own_check(how: str, check: Callable[..., Result], tmp_path: Path) -> None:
    changes, name, message = BROKEN[how]
    result = check(write_backbone(tmp_path / "broken.py", *changes), "--json")
    if not name:  # it cannot even be built or measured
        assert result.exit_code == 2
        assert message in result.stderr
        return
    assert result.exit_code == 1, result.output
    failed = [verdict for verdict in json.loads(result.stdout)["verdicts"] if verdict["outcome"] == "fail"]
    assert [verdict["check"] for verdict in failed] == [name], failed
    assert message in failed[0]["detail"]


def test_every_check_can_fail() -> None:
    assert {name for _, name, _ in BROKEN.values() if name} == {check.name for check in CHECKS}


def test_sizes_and_datasets(check: Callable[..., Result], tmp_path: Path) -> None:
    path = write_backbone(tmp_path / "means.py")
    result = check(path, "--dataset", "scenes", "--set", "backbone.embed=8", "--json")
    assert result.exit_code == 0, result.output
    assert check(path, "--set", "l2rm.reg=1").stderr.startswith("Error: unknown --set target 'l2rm'.")
    assert "unknown dataset 'scene'" in check(path, "--dataset", "scene").stderr
    assert "unknown backbone 'mean'" in check("mean").stderr
