"""Draws: curves of cost, and what every chart here shares. Measures nothing."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools.figure import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of so many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def plain(axes: "Axes") -> None:
    """Take away the upper and right edge."""
    axes.spines[["top", "right"]].set_visible(False)


def curves(panels: list[dict[str, Any]], picture: Path) -> None:
    """Draw curves of cost.

    Args:
        panels: each with title, xlabel, ylabel, log (axes with a logarithmic scale, "x", "y" or
            both) and lines, a dict of label -> list of [x, y].
        picture: PNG to write.
    """
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(13 / 3 * columns, 3.4 * lines)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        for label, points in panel["lines"].items():
            axes.plot(*zip(*points, strict=True), "o-", ms=4, label=label)
        measured = [x for x, _ in next(iter(panel["lines"].values()))]
        axes.set(title=panel["title"], xlabel=panel["xlabel"], ylabel=panel["ylabel"])
        if "x" in panel["log"]:
            axes.set_xscale("log")
        if len(measured) <= 5 and not isinstance(measured[0], str):
            axes.set_xticks(measured, [f"{x:g}" for x in measured])
            axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        if "y" in panel["log"]:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        if len(panel["lines"]) > 1:
            axes.legend(frameon=False, fontsize=8)
        plain(axes)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    save_figure(figure, picture, dpi=100)
