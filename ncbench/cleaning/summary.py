"""The summary of a cleaning: a JSON file, and the same in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ncbench.cleaning.calibration import Ratio
from ncbench.cleaning.findings import names_in_words
from ncbench.runtime.files import write_json

if TYPE_CHECKING:
    from ncbench.cleaning.clean import Cleaned, Options

BINS = 20
WIDE = 0.1
"""From this width of the interval on, the ratio is called uncertain."""


def summary_of(done: Cleaned, options: Options) -> dict[str, Any]:
    """Return the content of the summary."""
    found = done.judged.findings
    histogram, _ = np.histogram(found.together.p_mismatched, BINS, (0, 1))
    return {
        "input": done.source.name,
        "columns": done.source.columns.in_words,
        "rows": done.source.n_rows,
        "pairs": len(done.content.rows),
        "images": len(done.content.names),
        "ratio": _ratio(found.together.ratio),
        "separation": found.together.separation,
        "scorers": {
            name: {
                "ratio": _ratio(opinion.ratio),
                "separation": opinion.separation,
                "weight": opinion.weight,
            }
            for name, opinion in found.each.items()
        },
        "agreement": [
            {"scorers": list(names), "rank_correlation": rank, "same_verdict": same}
            for names, (rank, same) in found.agreement().items()
        ],
        "rule": options.rule.in_words,
        "counts": done.counts,
        "skipped_pictures": len(done.content.skipped),
        "files": {name: str(path) for name, path in done.lists.items()},
        "gallery": str(done.gallery),
        "histogram": {"bins": BINS, "counts": histogram.tolist()},
        "partners": {
            "proposed": int((done.judged.partners.pair >= 0).sum()),
            "looked_up": done.judged.partners.looked_up,
            "hit_rate": done.judged.partners.hit_rate,
        },
        "seconds": round(done.judged.seconds, 1),
    }


def write_summary(done: Cleaned, options: Options) -> None:
    """Write the summary next to the lists. Raises OSError."""
    write_json(done.summary, summary_of(done, options))


def sentences(done: Cleaned, options: Options) -> list[str]:
    """Return what the user should know, most important first."""
    found, partners = done.judged.findings, done.judged.partners
    ratio, pairs = found.together.ratio, len(done.content.rows)
    told = [f"About {ratio.estimate:.1%} of {pairs:,} pairs are mismatched (95 % interval {_interval(ratio)})."]
    if ratio.high - ratio.low > WIDE:
        told.append("The interval is wide: look at the pairs to review before you drop any, or use stronger features.")
    told.append(
        f"A given pair looks better than a random one in {found.together.separation:.0%} of cases "
        "(50 % would be chance)."
    )
    for name, one in found.each.items():
        told.append(
            f"{name}: {one.ratio.estimate:.1%} ({_interval(one.ratio)}), better than random in {one.separation:.0%}, "
            f"weight {one.weight:.0%}."
        )
    for (one_name, other), (rank, same) in found.agreement().items():
        told.append(
            f"{names_in_words([one_name, other])} agree on {same:.0%} of the pairs (rank correlation {rank:.2f})."
        )
    if partners.looked_up:
        told.append(
            f"A better image is proposed for {int((partners.pair >= 0).sum()):,} of {partners.looked_up:,} pairs"
            + (
                f"; for kept captions, {partners.hit_rate:.0%} of such proposals are their own image."
                if partners.hit_rate
                else "."
            )
        )
    return told


def _ratio(ratio: Ratio) -> dict[str, float]:
    return {"estimate": ratio.estimate, "low": ratio.low, "high": ratio.high}


def _interval(ratio: Ratio) -> str:
    return f"{ratio.low:.1%} to {ratio.high:.1%}"
