"""The style of all charts: colours, marks and dashes that differ also in greyscale, sizes, and the writer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font

from pipeline.system.atomic_files import whole

MADE_BY = "vgg-repro"  # in the metadata of every chart's file
DPI = 120
QUALITY = 85  # of JPEG, in which photographs are a fraction of their PNG
WIDTH = 6.0  # inches: narrow enough to be read on a phone
INK, PALE, GRID = "#222222", "#8a8a8a", "#e6e6e6"
BLUE, ORANGE, GREEN, PURPLE = "#4477aa", "#cc7733", "#228833", "#882277"
STYLE: dict[Any, Any] = {
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": PALE,
    "axes.grid": True, "grid.color": GRID, "axes.axisbelow": True, "legend.frameon": False,
    "axes.titlesize": 10, "axes.titleweight": "bold", "legend.fontsize": 9, "lines.linewidth": 1.6,
    "lines.markersize": 5.5, "hatch.linewidth": 0.8, "text.parse_math": False, "figure.constrained_layout.use": True,
    "figure.constrained_layout.wspace": 0.05,
}  # fmt: skip
SERIES: tuple[dict[str, Any], ...] = (
    {"color": BLUE, "marker": "o", "ls": "-"},
    {"color": ORANGE, "marker": "s", "ls": "--"},
    {"color": GREEN, "marker": "^", "ls": "-."},
    {"color": PURPLE, "marker": "D", "ls": ":"},
    {"color": INK, "marker": "v", "ls": (0, (6, 1.5))},
    {"color": PALE, "marker": "P", "ls": (0, (3, 1, 1, 1, 1, 1))},
    {"color": "#66ccee", "marker": "X", "ls": (0, (1, 1))},
)  # of the lines of a panel, in their order: each has a colour, a mark and dashes of its own


@contextmanager
def in_style() -> Iterator[None]:
    """Draw and write figures in the style within the block."""
    with mpl.rc_context(STYLE):
        yield


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure of a size in inches."""
    return Figure(figsize=(width, height))


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as its path's suffix says: as PNG or JPEG, or as a transparent SVG whose text is text.

    Equal figures give equal bytes.
    """
    with in_style(), whole(path) as file:
        if path.suffix == ".png":
            figure.savefig(file, format="png", dpi=DPI, metadata={"Software": MADE_BY})
            return
        if path.suffix == ".jpg":
            marked = {"quality": QUALITY, "subsampling": 0, "comment": f"Software\0{MADE_BY}"}
            encoded = BytesIO()  # Pillow writes JPEG into a file's descriptor, and then a full disk has no name
            figure.savefig(encoded, format="jpg", dpi=DPI, pil_kwargs=marked)
            file.write(encoded.getvalue())
            return
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
            figure.savefig(file, format="svg", dpi=DPI, transparent=True, metadata={"Date": None})


def series(number: int) -> dict[str, Any]:
    """Return colour, mark and dashes of a panel's line."""
    return SERIES[number % len(SERIES)]


def drawable(name: str) -> bool:
    """Return whether the charts' font has all letters of a name."""
    letters = FT2Font(findfont("DejaVu Sans")).get_charmap()
    return all(ord(letter) in letters for letter in name)


def shortened(name: str, most: int = 18) -> str:
    """Return a name that is at most `most` letters long."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def class_label(number: int, name: str, most: int = 18) -> str:
    """Return a class's name, at most `most` letters long; its number if the font lacks letters of the name."""
    return shortened(name, most) if drawable(name) else f"class {number}"


def signed(points: float, digits: int = 1) -> str:
    """Return a difference in points with its sign: +1.0, −0.7."""
    return f"{points:+.{digits}f}".replace("-", "−")
