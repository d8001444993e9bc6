"""Check and time ncbench on a GPU, offline, within a few minutes.

Usage: python benchmarks/gpu.py --minutes 8 --json FILE [--device cuda] [SECTION ...]

Needs this checkout, torch and NumPy; nothing is downloaded, and ncbench need not be installed. What cannot be imported
is left out, and the results name it: without msgspec, SciPy and POT no method can run. Results are written after every
line, so that nothing is lost if time runs out. Sections, in this order:

  products     FLOP/s of large matrix products in float32, tf32 and bf16
  backbones    every backbone: scores and gradients finite, and their differences from those of the CPU
  methods      every method, a few updates of small networks: finite losses, the difference of the first from that on
               the CPU, and of those after an interruption from those without
  steps        a training step at the size used in papers, the published loop and ours in each precision: seconds, peak
               memory, the share of the time in which the GPU works, and kernels launched
  evaluation   similarities of 1,000 images and 5,000 captions, and of the published loop for some of them
  transport    L2RM's transport plan, on the CPU, and its share of a step
  reading      batches of features from a file, alone and beside steps, through pinned memory
  schedules    hours per method for its published schedule on Flickr30K, from updates at the size used in papers
"""

from __future__ import annotations

import argparse
import copy
import importlib
import importlib.util
import json
import pkgutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
METHODS = "ncbench_methods"


def _no_name(name: str) -> object:
    raise AttributeError(f"{name} cannot be found without lazy_loader")


def find_checkout() -> None:
    """Make the packages of this checkout importable where they are not installed."""
    sys.path.append(str(ROOT))
    try:
        importlib.import_module("lazy_loader")
    except ImportError:  # it serves names of packages, which this script does not use
        lazy = ModuleType("lazy_loader")
        for name in ("attach", "attach_stub"):
            setattr(lazy, name, lambda *_, **__: (_no_name, lambda: [], []))
        sys.modules["lazy_loader"] = lazy
    if importlib.util.find_spec(METHODS) is None:
        package = ModuleType(METHODS)
        package.__path__ = [str(ROOT / "methods")]
        sys.modules[METHODS] = package


find_checkout()

from published_loop import PublishedLoop  # noqa: E402

from ncbench.backbones.base import Backbone, Sizes  # noqa: E402
from ncbench.backbones.precision import matmul_precision  # noqa: E402
from ncbench.backbones.registry import BACKBONES, ENSEMBLES, build_backbone  # noqa: E402
from ncbench.budget import EpochMeter  # noqa: E402
from ncbench.data.dataset import Captions, ImageFeatures  # noqa: E402
from ncbench.data.training_view import TrainingView  # noqa: E402
from ncbench.method.losses import hinge_max, hinge_mean  # noqa: E402
from ncbench.runtime.device import synchronise  # noqa: E402
from ncbench.runtime.rng_state import random_state, seed_all, set_random_state  # noqa: E402
from ncbench.training.loop import Loop, Workshop  # noqa: E402

if TYPE_CHECKING:
    from ncbench.method.base import Method

Line: TypeAlias = tuple[str, Mapping[str, Any]]

SEED = 0
MARGIN = 0.2
F30K_PAIRS = 145_000
PRECISIONS = ("float32", "tf32", "bf16")
SMALL = Sizes(image_dim=12, n_regions=5, vocabulary=20, embed=16, similarity=8, word=10, dropout=0.0)
SMALL_PAIRS, SMALL_BATCH = 120, 16  # two thirds of the pairs are clean: more than any method asks for
UPDATES_BEFORE = 2  # an interruption


@dataclass(frozen=True)
class Scale:
    """What is timed: sizes of a network, pairs of a batch, and images and captions of an evaluation."""

    sizes: Sizes
    batch: int
    images: int
    captions: int
    captions_of_loop: int
    rows: int
    repeats: int


PAPER = Scale(Sizes(image_dim=2048, n_regions=36, vocabulary=8481), 128, 1000, 5000, 128, 4000, 10)
TINY = Scale(replace(SMALL, vocabulary=40), 8, 12, 30, 6, 32, 2)


@dataclass(frozen=True)
class Place:
    """Where something is measured, and how large it is."""

    device: torch.device
    scale: Scale

    def seconds(self, function: Callable[[], object], repeats: int | None = None) -> float:
        """Return the median time of a call, after one that warms up."""
        found = []
        for _ in range(1 + (repeats or self.scale.repeats)):
            synchronise(self.device)
            since = time.perf_counter()
            function()
            synchronise(self.device)
            found.append(time.perf_counter() - since)
        return statistics.median(found[1:])


def make_captions(count: int, vocabulary: int, rng: np.random.Generator) -> Captions:
    """Return captions with lengths like those of Flickr30K: 14 tokens on average."""
    lengths = np.maximum(2, rng.gamma(8, 1.4, count).round().astype(int) + 3)
    return Captions([""] * count, [rng.integers(4, vocabulary, length).tolist() for length in lengths])


def make_batch(sizes: Sizes, images: int, captions: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return random images and captions on a device, and the captions' lengths."""
    rng = np.random.default_rng(SEED)
    tokens, lengths = make_captions(captions, sizes.vocabulary, rng).padded(np.arange(captions))
    features = rng.random((images, sizes.n_regions, sizes.image_dim), np.float32)
    return torch.from_numpy(features).to(device), torch.from_numpy(tokens).to(device), torch.from_numpy(lengths)


def make_view(sizes: Sizes, pairs: int, device: torch.device) -> TrainingView:
    """Return `pairs` random pairs, two to an image."""
    rng = np.random.default_rng(SEED)
    features = rng.random((pairs // 2, sizes.n_regions, sizes.image_dim), np.float32)
    captions = make_captions(pairs, sizes.vocabulary, rng)
    return TrainingView(ImageFeatures([features]), captions, np.arange(pairs) // 2, device)


def products(place: Place) -> Iterator[Line]:
    """Measure large matrix products."""
    size = 8192 if place.device.type == "cuda" else 512
    for precision in PRECISIONS:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        one, other = (torch.randn(size, size, device=place.device, dtype=dtype) for _ in range(2))
        with matmul_precision("tf32" if precision == "tf32" else "float32"):
            yield precision, {"flops_per_second": 2 * size**3 / place.seconds(lambda a=one, b=other: a @ b)}


def backbones(place: Place) -> Iterator[Line]:
    """Compare every backbone with itself on the CPU."""
    for name in sorted(set(BACKBONES) - set(ENSEMBLES)):
        torch.manual_seed(SEED)
        here = build_backbone(name, SMALL)
        there = copy.deepcopy(here).to(place.device)
        images, tokens, lengths = make_batch(SMALL, 6, 6, torch.device("cpu"))
        expected, found = (
            here(images, tokens, lengths),
            there(images.to(place.device), tokens.to(place.device), lengths),
        )
        for scores in (expected, found):
            hinge_mean(scores, MARGIN).backward()  # type: ignore[no-untyped-call]
        gradients = [
            (float((ours.grad.cpu() - theirs.grad).norm()), float(theirs.grad.norm()))
            for ours, theirs in zip(there.parameters(), here.parameters(), strict=True)
            if theirs.grad is not None and ours.grad is not None
        ]
        yield (
            name,
            {
                "finite": bool(found.isfinite().all()) and all(np.isfinite(difference) for difference, _ in gradients),
                "difference_of_scores": float((found.detach().cpu() - expected.detach()).abs().max()),
                "difference_of_gradients": max(d / max(size, 1e-6) for d, size in gradients),
            },
        )


def method_names() -> list[str]:
    """Return the names of the methods of this checkout."""
    found = pkgutil.iter_modules([str(ROOT / "methods")])
    return sorted(module.name for module in found if not module.name.startswith("_"))


def find_method(name: str) -> type[Method]:
    """Return the class of a method. Raises ImportError where it cannot run."""
    from ncbench.method.base import Method

    module = importlib.import_module(f"{METHODS}.{name}")
    return next(
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Method) and found.__module__ == module.__name__
    )


def make_loop(method: type[Method], backbone: str, sizes: Sizes, view: TrainingView, batch: int, epochs: int) -> Loop:
    """Return a training loop of a method, with its default settings, that is set up."""
    names = {field for field in ("batch_size", "queue") if field in method.Config.__dataclass_fields__}
    config = method.Config(**dict.fromkeys(names, batch))
    meter, device = EpochMeter(epochs), view._device
    seed_all(SEED)
    clean = np.arange(len(view)) % 3 != 0
    loop = Loop(method(config), view, Workshop(backbone, sizes, device, "float32", meter), meter, SEED, clean)
    loop.set_up()
    return loop


def losses_of(loop: Loop, count: int | None = None) -> list[float]:
    """Return the losses of the next updates, all or `count`."""
    found: list[float] = []
    for scalars in loop.updates():
        if scalars is not None:
            found.append(float(scalars["loss"]))
            if len(found) == count:
                break
    return found


def methods(place: Place) -> Iterator[Line]:
    """Train every method for two epochs, on the CPU, on the device, and on the device with an interruption."""
    for name in method_names():
        try:
            method = find_method(name)

            def start(device: torch.device, method: type[Method] = method) -> Loop:
                view = make_view(SMALL, SMALL_PAIRS, device)
                return make_loop(method, "vse-infinity", SMALL, view, SMALL_BATCH, epochs=2)

            first = losses_of(start(torch.device("cpu")), 1)
            whole = losses_of(start(place.device))
            interrupted = start(place.device)
            before = losses_of(interrupted, UPDATES_BEFORE)
            state, generators = interrupted.state_dict(), random_state()
            resumed = start(place.device)
            resumed.load_state_dict(state)
            set_random_state(generators)
            again = before + losses_of(resumed)
        except ImportError as error:
            yield name, {"left_out": str(error)}
            continue
        except Exception as error:  # one method that fails is a result
            yield name, {"failed": f"{type(error).__name__}: {error}"}
            continue
        yield (
            name,
            {
                "finite": bool(np.isfinite(whole).all()),
                "updates": len(whole),
                "difference_from_cpu": abs(whole[0] - first[0]) / max(abs(first[0]), 1e-6),
                "resumed_updates": len(again),
                "difference_after_resuming": max(
                    (abs(a - b) / max(abs(a), 1e-6) for a, b in zip(whole, again, strict=False)), default=None
                ),
            },
        )


def step_of(network: Backbone, score: Callable[..., Tensor], place: Place) -> Callable[[], None]:
    """Return a function that makes a training step on a batch, without an optimiser."""
    images, tokens, lengths = make_batch(place.scale.sizes, place.scale.batch, place.scale.batch, place.device)

    def step() -> None:
        network.zero_grad()
        hinge_max(score(images, tokens, lengths), MARGIN).backward()  # type: ignore[no-untyped-call]

    return step


@contextmanager
def stated(network: Backbone, precision: str) -> Iterator[None]:
    """Compute in a precision inside this block."""
    network.use_precision(precision)  # type: ignore[arg-type]
    with matmul_precision(precision):  # type: ignore[arg-type]
        yield


def steps(place: Place) -> Iterator[Line]:
    """Time a training step of networks of the size used in papers."""
    for name, ways in (("sgr", ("published", *PRECISIONS)), ("vse-infinity", ("float32", "tf32"))):
        for way in ways:
            torch.manual_seed(SEED)
            network = build_backbone(name, place.scale.sizes).to(place.device).train()
            precision = "float32" if way == "published" else way
            score = PublishedLoop(network) if way == "published" else network
            with stated(network, precision):
                step = step_of(network, score, place)
                if place.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(place.device)
                found: dict[str, Any] = {"seconds": place.seconds(step, 3 if way == "published" else None)}
                if place.device.type == "cuda":
                    found["peak_bytes"] = torch.cuda.max_memory_allocated(place.device)
                    found |= launches(step, place.device)
            yield f"{name}, {way}", found


def launches(step: Callable[[], None], device: torch.device) -> dict[str, float]:
    """Return how many kernels a step launches, and the share of its time in which the GPU computes."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        synchronise(device)
        since = time.perf_counter()
        step()
        synchronise(device)
        wall = time.perf_counter() - since
    kernels = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    busy = sum(event.time_range.elapsed_us() for event in kernels) / 1e6
    return {"kernels": len(kernels), "busy_share": busy / wall}


def evaluation(place: Place) -> Iterator[Line]:
    """Time the similarities of a test split: encoded once, and scored in blocks of captions."""
    scale = place.scale
    torch.manual_seed(SEED)
    network = build_backbone("sgr", scale.sizes).to(place.device).eval()
    loop = PublishedLoop(network)
    images, tokens, lengths = make_batch(scale.sizes, scale.images, scale.captions, place.device)
    order = torch.argsort(lengths)

    def ours(captions: int) -> Callable[[], None]:
        @torch.no_grad()
        def evaluate() -> None:
            encoded = network.encode_images(images)
            for chosen in order[:captions].split(128):
                longest = int(lengths[chosen].max())
                network.score(
                    encoded, network.encode_captions(tokens[chosen.to(place.device), :longest], lengths[chosen])
                )

        return evaluate

    @torch.no_grad()
    def published() -> None:
        chosen = order[:: max(1, scale.captions // scale.captions_of_loop)]
        for part in images.split(100):  # as the released code does
            loop(part, tokens[chosen.to(place.device)], lengths[chosen])

    sampled = len(order[:: max(1, scale.captions // scale.captions_of_loop)])
    for precision in PRECISIONS:
        with stated(network, precision):
            seconds = place.seconds(ours(scale.captions), 1)
            yield precision, {"seconds": seconds, "pairs_per_second": scale.images * scale.captions / seconds}
    with stated(network, "float32"):
        seconds = place.seconds(published, 1)
    yield "published", {"captions": sampled, "pairs_per_second": scale.images * sampled / seconds}


def transport(place: Place) -> Iterator[Line]:
    """Time L2RM's transport plan for a batch, with its settings for Flickr30K."""
    try:
        from ncbench.method.transport import partial_transport

        generator, size = torch.Generator().manual_seed(SEED), place.scale.batch
        cost = 1 - (2 * torch.randn(size, size, generator=generator) - 7).sigmoid().to(place.device)
        given = torch.eye(size, dtype=torch.bool, device=place.device)
        seconds = place.seconds(lambda: partial_transport(cost, mass=0.1, reg=0.01, forbidden=given), 20)
    except ImportError as error:
        yield "plan", {"left_out": str(error)}
        return
    torch.manual_seed(SEED)
    network = build_backbone("sgr", place.scale.sizes).to(place.device).train()
    step = place.seconds(step_of(network, network, place))
    yield "plan", {"seconds": seconds, "share_of_step": seconds / (seconds + step)}


def reading(place: Place) -> Iterator[Line]:
    """Time batches of features from a file, alone and beside steps."""
    scale, sizes = place.scale, place.scale.sizes
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        shape = (scale.rows, sizes.n_regions, sizes.image_dim)
        mapped = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for start in range(0, scale.rows, 256):
            stop = min(scale.rows, start + 256)
            mapped[start:stop] = rng.random((stop - start, *shape[1:]), np.float32)
        mapped.flush()
        images = ImageFeatures([np.load(path, mmap_mode="r")])
        captions = make_captions(5 * scale.rows, sizes.vocabulary, rng)
        claimed = np.repeat(np.arange(scale.rows), 5)
        view = TrainingView(images, captions, claimed, place.device)
        count = 3 * scale.repeats
        reader = view.endless_batches(scale.batch, np.random.default_rng(1), drop_last=True)
        next(reader)
        seconds = place.seconds(lambda: next(reader), count)
        size = scale.batch * sizes.n_regions * sizes.image_dim * 4
        yield "alone", {"batches_per_second": 1 / seconds, "bytes_per_second": size / seconds}
        for name in ("sgr", "vse-infinity"):
            network = build_backbone(name, sizes).to(place.device).train()
            waited, since = 0.0, time.perf_counter()
            for _ in range(count):
                before = time.perf_counter()
                batch = next(reader)
                waited += time.perf_counter() - before
                network.zero_grad()
                hinge_max(network(*batch.inputs), MARGIN).backward()  # type: ignore[no-untyped-call]
            synchronise(place.device)
            wall = time.perf_counter() - since
            yield f"beside steps of {name}", {"steps_per_second": count / wall, "share_waited": waited / wall}


def schedules(place: Place) -> Iterator[Line]:
    """Time two epochs of every method on a few batches, and extrapolate the second to the published schedule."""
    scale = place.scale
    for name in method_names():
        try:
            method = find_method(name)
            epochs = method.published_epochs.get("f30k")
            if epochs is None:
                continue
            view = make_view(scale.sizes, max(SMALL_PAIRS, 4 * scale.batch), place.device)
            backbone = "vse-infinity" if method.needs_abilities else "sgr"
            loop, times = make_loop(method, backbone, scale.sizes, view, scale.batch, epochs=2), []
            since = time.perf_counter()
            for scalars in loop.updates():
                if scalars is None:
                    synchronise(place.device)
                    times.append(time.perf_counter() - since)
                    since = time.perf_counter()
        except ImportError as error:
            yield name, {"left_out": str(error)}
            continue
        except Exception as error:
            yield name, {"failed": f"{type(error).__name__}: {error}"}
            continue
        hours = times[1] / len(view) * F30K_PAIRS * epochs / 3600
        yield name, {"backbone": backbone, "epochs": epochs, "pairs": len(view), "seconds": times[1], "hours": hours}


SECTIONS: Mapping[str, Callable[[Place], Iterator[Line]]] = {
    "products": products,
    "backbones": backbones,
    "methods": methods,
    "steps": steps,
    "evaluation": evaluation,
    "transport": transport,
    "reading": reading,
    "schedules": schedules,
}


def facts(device: torch.device) -> dict[str, Any]:
    """Return what is known of the machine."""
    found: dict[str, Any] = {"torch": torch.__version__, "python": sys.version.split()[0], "device": str(device)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"name": properties.name, "bytes": properties.total_memory, "cuda": torch.version.cuda}
    return found


def measure(names: Sequence[str], place: Place, minutes: float, save: Callable[[Mapping[str, Any]], object]) -> None:
    """Measure the sections, and save what was found after every line; what is left when time is over is named."""
    found: dict[str, Any] = {"facts": facts(place.device), "left_out": []}
    deadline = time.monotonic() + 60 * minutes
    for name in names:
        lines = SECTIONS[name](place)
        while True:
            if time.monotonic() > deadline:
                found["left_out"].append(f"{'rest of ' if name in found else ''}{name}: out of time")
                break
            line = next(lines, None)
            if line is None:
                break
            found.setdefault(name, {})[line[0]] = dict(line[1])
            print(f"{name}: {line[0]}: {json.dumps(line[1])}", flush=True)
            save(found)
    save(found)


def main(words: Sequence[str] | None = None) -> None:
    """Check and time; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], metavar="SECTION", help="default: all")
    parser.add_argument("--minutes", type=float, default=8, help="stop after the line that is measured then")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks, to try the script itself")
    given = parser.parse_args(words)
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("CUDA is not available; --device cpu --tiny tries the script")

    def save(found: Mapping[str, Any]) -> None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")

    place = Place(torch.device(given.device), TINY if given.tiny else PAPER)
    measure(given.sections or list(SECTIONS), place, given.minutes, save)


if __name__ == "__main__":
    main()
