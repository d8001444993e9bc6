"""What a self-contained page embeds: figures as data URIs, data as JSON, markers as shapes."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ncbench.report.figures.looks import DARK, Look

MARKER_BOX = 14  # units of a marker's view box


def figure_source(path: Path) -> str:
    """Return an SVG file as a data URI: smaller than the file, since viewers do not see hundredths of a point."""
    text = path.read_text(encoding="utf-8")
    if "<image " in text:  # pictures are long as they are
        return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<\?xml.*?\?>|<!DOCTYPE.*?>", "", text, flags=re.DOTALL)
    text = re.sub(r"(?<=[\s(=\"])-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), text)
    text = re.sub(r">\s+<", "><", re.sub(r"\s+", " ", text)).strip()
    # Double quotes end the attribute that holds the URI.
    text = re.sub(r"'([A-Z][A-Za-z ]*)'", r"\1", text).replace("'", "&#39;").replace('"', "'")
    return "data:image/svg+xml," + quote(text, safe=" /:;=,.()-_!?@'*+[]$|^`~{}<>")


def data_block(content: object) -> str:
    """Return `content` as JSON that can stand within a script element."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def marker_path(look: Look) -> str:
    """Return the outline of a marker as an SVG path in a box of MARKER_BOX units."""
    from matplotlib.markers import MarkerStyle

    style = MarkerStyle(look.marker)
    outline = style.get_path().transformed(style.get_transform())
    scale, middle = 0.72 * MARKER_BOX * look.scale, MARKER_BOX / 2
    parts = []
    for polygon in outline.to_polygons(closed_only=False):
        corners = np.asarray(polygon, float) * (scale, -scale) + middle
        points = [f"{x:.1f} {y:.1f}" for x, y in corners]
        parts.append(f"M{'L'.join(points)}Z")
    return "".join(parts)


def page_colour(look: Look) -> str:
    """Return the colour of a look in CSS, for light and for dark ground."""
    return f"light-dark({look.colour}, {DARK[look.colour]})"
