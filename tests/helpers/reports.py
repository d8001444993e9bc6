"""Listening to what backbones report."""

from __future__ import annotations


class Reported(list[int]):
    """The FLOPs of every pass that was reported; and in all, similarities and captions with gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = self.samples = 0

    def __call__(self, flops: int, pairs: int = 0, samples: int = 0) -> None:
        self.append(flops)
        self.pairs += pairs
        self.samples += samples
