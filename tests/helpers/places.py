"""Where things lie that tests read."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
SHARED = Path(os.environ.get("NCBENCH_SHARED", ROOT.parent / "shared"))
"""Reference data that are no part of the checkout; tests that need them skip where they are missing."""
