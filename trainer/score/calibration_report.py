"""What a calibration says of itself: a table by length, and a reliability diagram."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_tools.figure import save_figure
from trainer.model.calibration import TERMS, LogisticCalibration
from trainer.score.calibration import WRONG, Row


def lines(calibration: LogisticCalibration, rows: Sequence[Row]) -> Iterator[str]:
    """The calibration for people, line by line."""
    yield f"mode {calibration.mode}, {calibration.speakers} speakers, each group left out in turn"
    yield "windows  answers   right  trusted  wrong of these  trusted of other people's sound"
    for row in rows:
        yield (
            f"{row.length:7d}  {row.answers:7,d}  {row.right:6.1%}  {row.trusted:7.1%}  "
            f"{_share(row.wrong):>14}  {_share(row.other_trusted):>31}"
        )
    yield "stated chance  came true  answers"
    for each in calibration.reliability:
        yield f"{each.stated:13.1%}  {each.right:9.1%}  {each.answers:7,d}"
    parts = zip(calibration.coefficients, TERMS, strict=True)
    terms = ", ".join(f"{value:+.2f} {term}" for value, term in parts if value)
    yield f"chance = sigmoid of {terms.replace(' one', '', 1)}"
    yield (
        f"trusted from a chance of {calibration.needed:.0%} and {calibration.least_windows} "
        f"windows on; longer than {calibration.windows[1]} counts as {calibration.windows[1]}"
    )
    if worst := max((row.wrong for row in rows if row.wrong > WRONG), default=0.0):
        yield (
            f"warning: up to {worst:.1%} of the trusted answers of a length are wrong, more than "
            f"{WRONG:.0%} even with the strictest of the needs that are tried"
        )


def _share(value: float) -> str:
    """A share of some answers; a dash where there are none."""
    return "-" if math.isnan(value) else f"{value:.1%}"


def plot(calibration: LogisticCalibration, path: Path) -> None:
    """The reliability diagram as PNG: what came true over what was stated."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.subplots()
    stated = [each.stated for each in calibration.reliability]
    right = [each.right for each in calibration.reliability]
    axes.plot([0, 1], [0, 1], color="#888", lw=0.8)
    axes.plot(stated, right, "o-", color="#2a78b5", ms=4)
    for each in calibration.reliability:
        axes.annotate(
            f"{each.answers:,}", (each.stated, each.right), (3, -9), textcoords="offset points",
            fontsize=6, color="#555",
        )  # fmt: skip
    axes.axvline(calibration.needed, color="#c8452f", lw=1, ls="--")
    axes.set(xlabel="stated chance of being right", ylabel="share that was right", aspect="equal")
    speakers = f"{calibration.speakers} speakers, each group left out in turn"
    axes.set_title(f"{calibration.mode}: {speakers}; numbers: answers", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
