"""The charts of profile_steps' page as Vega-Lite specifications, as trainer.page draws them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.profiling import NAMES, PHASES, Profile
from trainer.page.charts import chart

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
_LEAST_MS = 1e-2  # of a wait on a logarithmic scale
_ROW = 26  # pixels of a bar
_PHASE = "where it goes"


@dataclass(frozen=True)
class Section:
    """Charts that belong together.

    Attributes:
        title: of them.
        charts: a name, which may be empty, and a specification for each.
        text: how to read them.
    """

    title: str
    charts: Sequence[tuple[str, dict[str, Any]]]
    text: str


def sections(profiles: Sequence[Profile]) -> list[Section]:
    """All charts of the page."""
    longest = max(sum(row.total_ms for row in p.typical()) for p in profiles) / 1e3
    return [
        Section(
            "The steps of one epoch",
            [(p.name, steps(p, longest)) for p in profiles],
            "One bar a step, from the moment it began; the epoch of median length, from the second "
            "on. Red is waiting for data.",
        ),
        Section(
            "First step against the rest, by epoch",
            [("", first_by_epoch(profiles))],
            "Solid: the wait of the first step. Dotted: the median wait of the other steps. The "
            "first epoch includes the start of the loader.",
        ),
        Section(
            "Share of each process",
            [("", shares(profiles))],
            "Of all time in epochs from the second on: first steps and validation (if any) "
            "included.",
        ),
        Section(
            "Utilisation",
            [("", utilisation(profiles))],
            "Share of the time that is not waiting, first steps included.",
        ),
        Section(
            "How an epoch's time passes, beside the seed's",
            [("", passing(profiles))],
            "Share of the epoch's time that has passed after each step. A loader that never makes "
            "one step wait more than another follows the diagonal. Grey: the run that this "
            "project answers to, whose first step took 18 to 27 s and each other step 0.21 s.",
        ),
    ]


def steps(profile: Profile, longest: float) -> dict[str, Any]:
    """The steps of one epoch, a bar each.

    Args:
        longest: seconds of the axis.
    """
    values: list[dict[str, Any]] = []
    begin = 0.0
    for number, row in enumerate(profile.typical(), 1):
        at = begin
        for phase in PHASES:
            spent = row.spent(phase) / 1e3
            if spent > 0:
                values.append(
                    {"step": number, "top": number - 0.43, "low": number + 0.43}
                    | {"from": round(at, 6), "to": round(at + spent, 6)}
                    | {"ms": round(1e3 * spent, 3), _PHASE: NAMES[phase]}
                )
                at += spent
        begin += row.total_ms / 1e3
    count = len(profile.typical())
    scale = {"domain": [0.4, count + 0.6], "reverse": True, "nice": False, "zero": False}
    bars = {
        "mark": "rect",
        "encoding": {
            "x": _number("from", "seconds of the epoch")
            | {"scale": {"domain": [0, longest], "nice": False}},
            "x2": {"field": "to"},
            "y": _number("top", "step") | {"scale": scale, "axis": {"tickMinStep": 1}},
            "y2": {"field": "low"},
            "color": _phases({value[_PHASE] for value in values}),
            "tooltip": [
                {"field": "step"},
                {"field": _PHASE},
                _number("ms", "ms") | {"format": ",.1f"},
                _number("from", "from, s") | {"format": ".3f"},
            ],
        },
    }
    return chart([bars], values, 230)


def first_by_epoch(profiles: Sequence[Profile]) -> dict[str, Any]:
    """The waits of the first step and of the others, epoch by epoch."""
    values = []
    for p in profiles:
        for epoch, rows in enumerate(p.epochs(), 1):
            rest = median([row.data_ms for row in rows[1:]] or [0.0])
            for what, ms in (("first", rows[0].data_ms), ("others, median", rest)):
                # what the scale cannot show is drawn at its lower end; the tooltip has it
                values.append(
                    {"loader": p.name, "epoch": epoch, "step": what}
                    | {"ms": round(ms, 4), "wait": max(round(ms, 4), _LEAST_MS)}
                )
    lines = {
        "mark": {"type": "line", "point": len(values) <= 400, "strokeWidth": 1.5},
        "encoding": {
            "x": _number("epoch", "epoch")
            | {"axis": {"tickMinStep": 1}, "scale": {"zero": False, "nice": False}},
            "y": _number("wait", "wait, ms") | {"scale": {"type": "log"}, "axis": {"tickCount": 6}},
            "color": {"field": "loader", "type": "nominal", "title": None},
            "strokeDash": {
                "field": "step",
                "type": "nominal",
                "scale": {"domain": ["first", "others, median"], "range": [[1, 0], [2, 4]]},
            },
            "tooltip": [
                {"field": "loader"},
                {"field": "epoch"},
                {"field": "step"},
                _number("ms", "wait, ms") | {"format": ",.2f"},
            ],
        },
    }
    return chart([lines], values, 260)


def shares(profiles: Sequence[Profile]) -> dict[str, Any]:
    """What the time of each loader went to."""
    values = [
        {"loader": p.name, _PHASE: NAMES[phase], "share": round(100 * share, 3), "order": order}
        for p in profiles
        for order, phase in enumerate(NAMES)
        if (share := p.figures["process_share"].get(phase, 0.0))
    ]
    bars = {
        "mark": "bar",
        "encoding": {
            "x": _number("share", "% of the time") | {"scale": {"domain": [0, 100]}},
            "y": _loaders(profiles),
            "color": _phases({value[_PHASE] for value in values}),
            "order": {"field": "order", "type": "quantitative"},
            "tooltip": [
                {"field": "loader"},
                {"field": _PHASE},
                _number("share", "%") | {"format": ".1f"},
            ],
        },
    }
    return chart([bars], values, _ROW * len(profiles))


def utilisation(profiles: Sequence[Profile]) -> dict[str, Any]:
    """The share of its time that each loader lets compute."""
    values = [
        {"loader": p.name, "share": round(100 * p.figures["utilisation"], 3)} for p in profiles
    ]
    x = _number("share", "% of the time computing") | {"scale": {"domain": [0, 110]}}
    y = _loaders(profiles)
    tooltip = [{"field": "loader"}, _number("share", "%") | {"format": ".1f"}]
    words = {"expr": "format(datum.share, '.1f') + ' %'"}
    return chart(
        [
            {
                "mark": {"type": "bar", "color": COLOURS["compute"]},
                "encoding": {"x": x, "y": y, "tooltip": tooltip},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 4, "text": words}
                | {"color": "var(--ink)"},
                "encoding": {"x": x, "y": y},
            },
        ],
        values,
        _ROW * len(profiles),
    )


def passing(profiles: Sequence[Profile]) -> dict[str, Any]:
    """How the time of an epoch passes with its steps, beside the seed's."""
    values = []
    for p in profiles:
        rows = p.typical()
        total, at = sum(row.total_ms for row in rows), 0.0
        label = f"{p.name} ({p.figures['epoch_s']:.2f} s)"
        for number, ms in enumerate([0.0, *(row.total_ms for row in rows)]):
            at += ms
            values.append(
                {"loader": label, "steps": round(100 * number / len(rows), 3)}
                | {"time": round(100 * at / total, 3)}
            )
    x = _number("steps", "% of the epoch's steps done")
    y = _number("time", "% of the epoch's time passed")
    soft = {"type": "line", "color": "var(--soft)"}
    return chart(
        [
            {
                "data": {"values": _seed()},
                "mark": {"type": "area", "color": "var(--soft)", "opacity": 0.3},
                "encoding": {"x": x, "y": y | {"field": "least"}, "y2": {"field": "most"}},
            },
            {
                "data": {"values": [{"steps": 0, "time": 0}, {"steps": 100, "time": 100}]},
                "mark": soft | {"strokeDash": [2, 4], "strokeWidth": 1},
                "encoding": {"x": x, "y": y},
            },
            {
                "mark": {"type": "line", "point": {"size": 14}, "strokeWidth": 1.5},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": {"field": "loader", "type": "nominal", "title": None},
                    "tooltip": [
                        {"field": "loader"},
                        _number("steps", "% of the steps") | {"format": ".0f"},
                        _number("time", "% of the time") | {"format": ".1f"},
                    ],
                },
            },
        ],
        values,
        300,
    )


def _seed() -> list[dict[str, float]]:
    """Between what the seed's share of the time lay after each of its steps."""
    points = [{"steps": 0.0, "least": 0.0, "most": 0.0}]
    for step in range(SEED_STEPS):
        passed = [
            100 * (first + step * SEED_STEP_S) / (first + (SEED_STEPS - 1) * SEED_STEP_S)
            for first in SEED_FIRST_S
        ]
        points.append(
            {"steps": round(100 * (step + 1) / SEED_STEPS, 3)}
            | {"least": round(min(passed), 3), "most": round(max(passed), 3)}
        )
    return points


def _number(field: str, title: str) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "title": title}


def _loaders(profiles: Sequence[Profile]) -> Mapping[str, Any]:
    sort = [p.name for p in profiles]
    return {"field": "loader", "type": "nominal", "title": None, "sort": sort}


def _phases(shown: set[str]) -> dict[str, Any]:
    """The colour of each phase, and a legend of those that are shown."""
    phases = {NAMES[phase]: COLOURS[phase] for phase in NAMES if NAMES[phase] in shown}
    scale = {"domain": list(phases), "range": list(phases.values())}
    legend = {"orient": "bottom", "title": None}
    return {"field": _PHASE, "type": "nominal", "scale": scale, "legend": legend}
