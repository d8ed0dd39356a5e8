"""The page of profile_steps: one HTML file whose charts are SVG inside. Measures nothing."""

import html
import io
import re
from typing import TYPE_CHECKING, Any

from benchmarks.draw import new_figure, plain
from benchmarks.profiling import NAMES, PHASES, Profile, figure_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmarks.result import Result

QUICK = "A quick run: it shows that the program works; its figures say nothing."
COLOURS = {
    "data": "#c8452f",
    "forward": "#2f6f9f",
    "loss": "#8c6bb1",
    "backward": "#5aa2c8",
    "optimizer": "#a3c9a8",
    "compute": "#2f6f9f",
    "validation": "#c9a227",
}
# The seed's epoch: 30 s, of which the first step took 80-90 % (18-27 s); each other 0.21 s.
SEED_FIRST_S, SEED_STEP_S, SEED_STEPS = (18.0, 27.0), 0.21, 15
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto;
  padding: 0 1rem; color: #1d2329; background: #fff }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block;
  overflow-x: auto }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #dde2e6; text-align: right;
  white-space: nowrap }
th { white-space: normal; vertical-align: bottom; overflow-wrap: break-word }
th:first-child, td:first-child { text-align: left }
svg { width: 100%; height: auto }
section p, footer { color: #5a6570; font-size: .9rem }
"""


def page(
    profiles: list[Profile], result: "Result", verdict: list[str], remedies: list[list[str]]
) -> str:
    """The whole report as one HTML text.

    Args:
        verdict: what follows, the most important first; may be empty.
        remedies: head and rows of a table of remedies; may be empty.
    """
    machine = result.machine
    about = (
        f"{machine['cores']} cores of {machine['processor']}, {machine['gpu'] or 'no GPU'}, "
        f"Python {machine['python']}; page cache {result.cache}"
    )
    names = "".join(
        f"<li><b>{html.escape(p.name)}</b>: {html.escape(p.what)}</li>" for p in profiles
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Where each step's time goes</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_STYLE}</style></head><body>
<h1>Where each step's time goes</h1>
{_said(result, verdict, remedies)}<h2>Figures</h2><ul>{names}</ul>
{_html_table([["", *(p.name for p in profiles)], *figure_rows(profiles)])}{_charts(profiles)}
<footer>python -m benchmarks.{html.escape(result.benchmark)} {html.escape(result.command)}<br>
{html.escape(about)}</footer></body></html>
"""


def _charts(profiles: list[Profile]) -> str:
    charts = [
        ("The steps of one epoch", _waterfall(profiles),
         "One bar a step, from the moment it began; the epoch of median length, from the second "
         "on. Red is waiting for data."),
        ("First step against the rest, by epoch", _first_by_epoch(profiles),
         "Filled: the wait of the first step. Hollow: the median wait of the other steps. The "
         "first epoch includes the start of the loader."),
        ("Share of each process", _shares(profiles),
         "Of all time in epochs from the second on: first steps and validation (if any) included."),
        ("Utilisation", _utilisation(profiles),
         "Share of the time that is not waiting, first steps included."),
        ("How an epoch's time passes, beside the seed's", _cumulative(profiles),
         "Share of the epoch's time that has passed after each step. A loader that never makes "
         "one step wait more than another follows the diagonal. Grey: the run that this "
         "project answers to, whose first step took 18 to 27 s and each other step 0.21 s."),
    ]  # fmt: skip
    return "".join(
        f"<section><h2>{html.escape(title)}</h2>{svg(figure)}<p>{html.escape(text)}</p></section>"
        for title, figure, text in charts
    )


def _said(result: "Result", verdict: list[str], remedies: list[list[str]]) -> str:
    """What stands above the figures."""
    said = "".join(
        f"<p>{html.escape(line)}</p>" if number else f"<p><strong>{html.escape(line)}</strong></p>"
        for number, line in enumerate(verdict)
    )
    if result.quick:
        said = f"<p><strong>{QUICK}</strong></p>" + said
    if remedies:
        said += f"<h2>What each remedy wins here</h2>{_html_table(remedies)}"
        said += (
            "<section><p>One more remedy a line down to our loader, then two alone; means over "
            "the epochs from the second on.</p></section>"
        )
    return said


def _html_table(rows: list[list[str]]) -> str:
    """The first row is the head."""

    def line(cells: list[str], tag: str) -> str:
        shown = [html.escape(cell) for cell in cells]
        if tag == "th":  # a name may break after each +, so that many loaders fit the page
            shown = [cell.replace("+", "+<wbr>") for cell in shown]
        return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in shown) + "</tr>"

    return f"<table>{line(rows[0], 'th')}{''.join(line(row, 'td') for row in rows[1:])}</table>"


def svg(figure: "Figure") -> str:
    """The figure as an svg element for a page."""
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "syncnet", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    # Without its own size it takes the page's width.
    return re.sub(r' (width|height)="[^"]*pt"', "", text, count=2)


def _waterfall(profiles: list[Profile]) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    columns = min(2 if len(profiles) < 5 else 3, len(profiles))
    lines = -(-len(profiles) // columns)
    figure = new_figure(11, 0.4 + 2.9 * lines)
    grid = figure.subplots(lines, columns, squeeze=False)
    longest = max(sum(row.total_ms for row in p.typical()) for p in profiles) / 1e3
    shown: dict[str, Any] = {}
    for axes, p in zip(grid.flat, profiles, strict=False):
        begin = 0.0
        for number, row in enumerate(p.typical(), 1):
            at = begin
            for phase in PHASES:
                spent = row.spent(phase) / 1e3
                if spent > 0:
                    bars = axes.barh(number, spent, left=at, height=0.85, color=COLOURS[phase])
                    shown.setdefault(NAMES[phase], bars)
                    at += spent
            begin += row.total_ms / 1e3
        axes.set(title=p.name, ylabel="step", xlim=(0, longest))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.set_ylim(len(p.typical()) + 0.7, 0.3)
        plain(axes)
    for axes in grid.flat[len(profiles) :]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, len(profiles) - columns) : len(profiles)]:
        axes.set_xlabel("seconds of the epoch")
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=6, frameon=False)
    return figure


def _first_by_epoch(profiles: list[Profile]) -> "Figure":
    from statistics import median

    from matplotlib.ticker import MaxNLocator

    figure = new_figure(10, 4)
    axes = figure.subplots()
    for p in profiles:
        epochs = p.epochs()
        x = range(1, len(epochs) + 1)
        mark = "o" if len(epochs) <= 50 else ""
        (line,) = axes.plot(
            x, [max(rows[0].data_ms, 1e-2) for rows in epochs], f"{mark}-", label=p.name
        )
        rest = [max(median([r.data_ms for r in rows[1:]] or [0.0]), 1e-2) for rows in epochs]
        axes.plot(x, rest, f"{mark}:", color=line.get_color(), mfc="white")
    axes.set(xlabel="epoch", ylabel="wait, ms", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside right upper", frameon=False)
    plain(axes)
    return figure


def _shares(profiles: list[Profile]) -> "Figure":
    figure = new_figure(10, 1 + 0.5 * len(profiles))
    axes = figure.subplots()
    names = [p.name for p in profiles]
    left = [0.0] * len(profiles)
    for phase in NAMES:
        share = [100 * p.figures["process_share"].get(phase, 0.0) for p in profiles]
        if any(share):
            axes.barh(names, share, left=left, color=COLOURS[phase], label=NAMES[phase])
            left = [a + b for a, b in zip(left, share, strict=True)]
    axes.set(xlabel="% of the time", xlim=(0, 100))
    axes.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=6, frameon=False)
    plain(axes)
    return figure


def _utilisation(profiles: list[Profile]) -> "Figure":
    figure = new_figure(10, 0.8 + 0.45 * len(profiles))
    axes = figure.subplots()
    values = [100 * p.figures["utilisation"] for p in profiles]
    bars = axes.barh([p.name for p in profiles], values, color=COLOURS["compute"])
    axes.bar_label(bars, fmt="%.1f %%", padding=4)
    axes.set(xlabel="% of the time computing", xlim=(0, 110))
    axes.invert_yaxis()
    plain(axes)
    return figure


def _cumulative(profiles: list[Profile]) -> "Figure":
    figure = new_figure(10, 4)
    axes = figure.subplots()
    x = [step / SEED_STEPS for step in range(SEED_STEPS + 1)]
    bounds = []
    for first in SEED_FIRST_S:
        total = first + (SEED_STEPS - 1) * SEED_STEP_S
        passed = [first + step * SEED_STEP_S for step in range(SEED_STEPS)]
        bounds.append([0.0, *(100 * value / total for value in passed)])
    axes.fill_between(
        [100 * v for v in x], bounds[0], bounds[1], color="#888", alpha=0.35, label="the seed's"
    )
    axes.plot([100 * v for v in x], bounds[0], color="#888", lw=0.8)
    axes.plot([100 * v for v in x], bounds[1], color="#888", lw=0.8)
    for p in profiles:
        rows = p.typical()
        total = sum(row.total_ms for row in rows)
        passed, at = [0.0], 0.0
        for row in rows:
            at += row.total_ms
            passed.append(100 * at / total)
        axes.plot(
            [100 * i / len(rows) for i in range(len(rows) + 1)],
            passed,
            label=f"{p.name} ({p.figures['epoch_s']:.2f} s)",
        )
    axes.plot([0, 100], [0, 100], ":", color="black", lw=0.8, label="every step alike")
    axes.set(xlabel="% of the epoch's steps done", ylabel="% of the epoch's time passed")
    figure.legend(loc="outside right upper", frameon=False)
    plain(axes)
    return figure
