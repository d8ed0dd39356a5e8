"""The page of profile_steps: one HTML file whose charts Vega draws. Measures nothing."""

import hashlib
import html
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.profile_charts import Section, sections
from benchmarks.profiling import Profile, figure_rows
from data_tools.errors import MissingPackage
from trainer.page.charts import check_packages, library

if TYPE_CHECKING:
    from benchmarks.result import Result

QUICK = "A quick run: it shows that the program works; its figures say nothing."
NO_CHARTS = "The page is without its charts: they need pip install 'syncnet-trainer[html]'."
_STYLE = """
:root { --ink: #1d2329; --soft: #5a6570; --line: #dde2e6 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto;
  padding: 0 1rem; color: var(--ink); background: #fff }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block;
  overflow-x: auto }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap }
th { white-space: normal; vertical-align: bottom; overflow-wrap: break-word }
th:first-child, td:first-child { text-align: left }
.charts { display: grid; gap: 1rem 1.5rem }
.charts.several { grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)) }
.charts > * { min-width: 0 }
.chart { width: 100% }
.chart svg { display: block; max-width: 100% }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere }
section p, footer { color: var(--soft); font-size: .9rem }
"""
# ast: expressions are read, not compiled, which the page's policy forbids
_DRAW = """
(async () => {
  const specs = JSON.parse(document.getElementById("data").textContent);
  for (const place of document.querySelectorAll(".chart"))
    await vegaEmbed(place, specs[Number(place.dataset.number)],
      { renderer: "svg", actions: false, ast: true, mode: "vega-lite" });
  document.documentElement.dataset.drawn = "";
})();
"""


def page(
    profiles: list[Profile], result: "Result", verdict: list[str], remedies: list[list[str]]
) -> str:
    """The whole report as one HTML text; without its charts where `charts_missing`.

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
    drawn, scripts, policy = "", "", ""
    if charts_missing():
        drawn = f"<p><strong>{html.escape(NO_CHARTS)}</strong></p>"
    else:
        made = sections(profiles)
        drawn, scripts, nonce = _charts(made), *_scripts(made)
        policy = f"; script-src 'nonce-{nonce}'"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Where each step's time goes</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'\
{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_STYLE}</style></head><body>
<h1>Where each step's time goes</h1>
{_said(result, verdict, remedies)}<h2>Figures</h2><ul>{names}</ul>
{_html_table([["", *(p.name for p in profiles)], *figure_rows(profiles)])}{drawn}
<footer>python -m benchmarks.{html.escape(result.benchmark)} {html.escape(result.command)}<br>
{html.escape(about)}</footer>{scripts}</body></html>
"""


def charts_missing() -> bool:
    """Whether the page is to be without charts, as the extra [html] is not installed."""
    try:
        check_packages()
    except MissingPackage:
        return True
    return False


def _charts(made: Sequence[Section]) -> str:
    """Where the charts are to be, numbered in order."""
    text, number = "", 0
    for section in made:
        places = ""
        for name, _ in section.charts:
            head = f"<h3>{html.escape(name)}</h3>" if name else ""
            label = html.escape(f"{section.title}{': ' if name else ''}{name}")
            places += (
                f'<div>{head}<div class="chart" data-number="{number}" role="img" '
                f'aria-label="{label}"></div></div>'
            )
            number += 1
        several = " several" if len(section.charts) > 1 else ""
        text += (
            f'<section><h2>{html.escape(section.title)}</h2><div class="charts{several}">{places}'
            f"</div><p>{html.escape(section.text)}</p></section>"
        )
    return text


def _scripts(made: Sequence[Section]) -> tuple[str, str]:
    """Vega, the specifications and what draws them; and the word by which they may run."""
    specs = json.dumps([spec for section in made for _, spec in section.charts])
    nonce = hashlib.sha256(specs.encode()).hexdigest()[:24]
    safe = specs.replace("<", "\\u003c")  # JSON in HTML: no name may end the script
    text = (
        f'<script nonce="{nonce}">{library()}</script>'
        f'<script type="application/json" id="data">{safe}</script>'
        f'<script nonce="{nonce}">{_DRAW}</script>'
    )
    return text, nonce


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
