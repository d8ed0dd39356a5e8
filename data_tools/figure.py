"""Pictures of figures, which appear whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from data_tools.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Write `figure` to `path`: as its suffix says (.svg, .pdf, ...), else as PNG.

    Args:
        dpi: pixels an inch.

    Raises:
        OSError: `path` cannot be written.
    """
    suffix = path.suffix.lower().removeprefix(".")
    kind = suffix if suffix in figure.canvas.get_supported_filetypes() else "png"
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=dpi, format=kind)
