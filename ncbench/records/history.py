"""`history.jsonl`: one line per dev evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from ncbench.evaluation.beliefs import Count, Detection, Share
from ncbench.evaluation.plans import PlanShares
from ncbench.records.result import Scores
from ncbench.runtime.files import write_text


class HistoryLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dev evaluation of `backbone`, a member of an ensemble or the run's own.

    `share` of its budget, `work` in FLOPs, `updates` and `seconds` of training are spent by then; `loss` is that of the
    latest update, `dev` the scores. `plan` is where the mass of a batch's transport plan goes, if there is one.
    `detection` and `soft_labels` say how well P(clean) and the labels find mismatched pairs by then; None without
    beliefs, or without ground truth.
    """

    backbone: str
    share: Share
    work: Count
    updates: Count
    loss: float | None
    dev: Scores
    seconds: Annotated[float, Meta(ge=0)]
    plan: PlanShares | None = None
    detection: Detection | None = None
    soft_labels: Detection | None = None


class History:
    """The lines of a history as JSON. The file is rewritten at each new line, so that readers never see half a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines: list[str] = []

    def add(self, line: HistoryLine) -> None:
        """Append a line. Raises OSError."""
        self.lines.append(json.dumps(msgspec.to_builtins(line), sort_keys=True))
        write_text(self._path, "\n".join(self.lines) + "\n")
