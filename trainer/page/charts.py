"""The charts of pages as Vega-Lite specifications, and Vega itself as one script.

Vega and not Plotly: 0.9 MB in each page instead of 4.8, its SVG takes the page's own colours (dark
and light, on paper too) and is described to screen readers. It is bundled by vl-convert, offline.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from data_tools.errors import MissingPackage
from data_tools.mfcc import FPS
from trainer.score.tolerance import Tolerance

MS = 1000 // FPS  # of a frame
POINTS = 400  # of a curve over time, at most: as many as a screen shows

_AXIS_WIDTH = 52  # pixels; alike in all charts of a timeline, which are to lie below one another
_LEAST_MS = 200  # that a chart of offsets reaches to either side
_CLOCK = "floor(datum.value / 60) + ':' + pad(floor(datum.value % 60), 2, '0', 'left')"
_SIGNED = "(datum.value > 0 ? '+' : '') + format(datum.value, ',d')"
_MOST_BARS = 1001  # from end to end of the widest search
_WHOLE = "datum.value % 1 ? '' : format(datum.value, ',d')"
_CONFIG = {
    "background": "transparent",
    "font": "inherit",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 12,
    },
}


@lru_cache(maxsize=1)
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, which sets `window.vegaEmbed`.

    It takes seconds, once a process.

    Raises:
        MissingPackage: the extra [html] is not installed.
    """
    check_packages()
    import vl_convert

    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return str(script).replace("</script", "<\\/script")


def check_packages() -> None:
    """Whether what pages need is installed.

    Raises:
        MissingPackage: it is not.
    """
    try:
        import jinja2  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise MissingPackage(
            f"{error.name} is not installed; --html needs: pip install 'syncnet-trainer[html]'"
        ) from None


def curve(row: Mapping[str, Any], tolerance: Tolerance | None) -> dict[str, Any]:
    """How well each offset fits a track, from its row (`trainer.score.report.as_json`)."""
    fits = row.get("fit_by_shift")
    # The offset's sign is opposite to the shift's.
    values = [
        {"ms": -int(shift) * MS, "frames": -int(shift), "y": value}
        for shift, value in (fits or row["mean_distance_by_shift"]).items()
        if value is not None
    ]
    title = "fit (higher: better)" if fits else "distance (lower: better)"
    x = _offsets("x", "offset, ms (positive: audio early)")
    y = {
        "field": "y",
        "type": "quantitative",
        "title": title,
        "scale": {"zero": False},
        "axis": {"tickCount": 4},
    }
    told = [
        {"field": "ms", "type": "quantitative", "title": "offset, ms", "format": "+d"},
        {"field": "frames", "type": "quantitative", "title": "frames", "format": "+d"},
        {"field": "y", "type": "quantitative", "title": title, "format": ".3f"},
    ]
    found = {"values": [{"ms": row["offset_ms"]}]}
    return chart(
        [
            *_band("x", tolerance),
            {
                "data": found,
                "mark": {"type": "rule", "color": "var(--mark)", "strokeWidth": 2},
                "encoding": {"x": x},
            },
            {
                "mark": {"type": "line", "color": "var(--ink)", "strokeWidth": 1.5, "point": {
                    "color": "var(--ink)", "size": 22, "opacity": 1,
                }},
                "encoding": {"x": x, "y": y, "tooltip": told},
            },
        ],
        values,
        170,
    )  # fmt: skip


def confidence(row: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """A track's confidence on the timeline of its video, which is `seconds` long."""
    values = [{"t": round(t, 2), "c": None if c is None else round(c, 3)} for t, c in _thinned(row)]
    y = {
        "field": "c",
        "type": "quantitative",
        "title": "confidence",
        "axis": _y_axis(tickCount=3),
    }
    tooltip = [
        {"field": "t", "type": "quantitative", "title": "seconds", "format": ".1f"},
        {"field": "c", "type": "quantitative", "title": "confidence", "format": ".2f"},
    ]
    line = {"color": "var(--ink)", "strokeWidth": 1.2}
    return chart(
        [
            _zero(),
            {
                "mark": {
                    "type": "area",
                    "color": "var(--ink)",
                    "fillOpacity": 0.12,
                    "line": line,
                    "invalid": "break-paths-show-path-domains",
                },
                "encoding": {"x": _times(seconds, labels=False), "y": y, "tooltip": tooltip},
            },
            _cursor(seconds, labels=False),
        ],
        values,
        80,
        timed=True,
    )


def course(row: Mapping[str, Any], seconds: float, tolerance: Tolerance | None) -> dict[str, Any]:
    """A track's offset on the timeline of its video; what is not sure is dashed."""
    values = [
        {
            "t": part["begin_seconds"],
            "t2": part["end_seconds"],
            "ms": round(part["begin_offset_frames"] * MS),
            "ms2": round(part["end_offset_frames"] * MS),
            "said": "sure" if part["sure"] else "not sure",
        }
        for part in parts_of(row)
        if part["begin_offset_frames"] is not None
    ]
    reach = max([_LEAST_MS, *(abs(value[key]) + MS for value in values for key in ("ms", "ms2"))])
    y = _offsets("y", "offset, ms") | {
        "scale": {"domain": [-reach, reach], "nice": True},
        "axis": _y_axis(tickCount=5, labelExpr=_SIGNED),
    }
    tooltip = [
        {"field": "t", "type": "quantitative", "title": "from, s", "format": ".1f"},
        {"field": "t2", "type": "quantitative", "title": "to, s", "format": ".1f"},
        {"field": "ms", "type": "quantitative", "title": "offset, ms", "format": "+d"},
        {"field": "ms2", "type": "quantitative", "title": "at its end, ms", "format": "+d"},
        {"field": "said", "title": "that is"},
    ]
    sure = {"test": "datum.said === 'sure'"}
    return chart(
        [
            *_band("y", tolerance),
            _zero(),
            {
                "mark": {"type": "rule", "strokeWidth": 3, "strokeCap": "round"},
                "encoding": {
                    "x": _times(seconds),
                    "x2": {"field": "t2"},
                    "y": y,
                    "y2": {"field": "ms2"},
                    "color": {
                        "condition": sure | {"value": "var(--mark)"},
                        "value": "var(--soft)",
                    },
                    "strokeDash": {"condition": sure | {"value": [1, 0]}, "value": [5, 5]},
                    "tooltip": tooltip,
                },
            },
            _cursor(seconds),
        ],
        values,
        120,
        timed=True,
    )


def histogram(tracks_by_frames: Mapping[int, int]) -> dict[str, Any]:
    """How many tracks of a batch have each offset, of those that can be trusted."""
    low, high = min(*tracks_by_frames, -5), max(*tracks_by_frames, 5)
    # Of a file that another hand has changed, those that occur: no picture holds all between.
    bars_of = range(low, high + 1) if high - low < _MOST_BARS else sorted(tracks_by_frames)
    values = [{"frames": f, "ms": f * MS, "tracks": tracks_by_frames.get(f, 0)} for f in bars_of]
    bars = {
        "mark": {"type": "bar", "color": "var(--mark)"},
        "encoding": {
            "x": {
                "field": "ms",
                "type": "ordinal",
                "title": "offset, ms (positive: audio early)",
                "axis": {
                    "labelAngle": 0,
                    "labelOverlap": "greedy",
                    "labelSeparation": 6,
                    "labelExpr": _SIGNED,
                },
            },
            "y": {
                "field": "tracks",
                "type": "quantitative",
                "title": "faces",
                "axis": {"tickCount": 4, "labelExpr": _WHOLE},
            },
            "tooltip": [
                {"field": "ms", "title": "offset, ms"},
                {"field": "frames", "title": "frames"},
                {"field": "tracks", "title": "faces"},
            ],
        },
    }
    return chart([bars], values, 150)


def parts_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of a track's offset over time; where it was not followed, all of it as one."""
    parts: list[dict[str, Any]] | None = row.get("segments")
    if parts is not None:
        return parts
    return [
        {
            "begin_seconds": row["start_seconds"],
            "end_seconds": row["end_seconds"],
            "begin_offset_frames": row["offset_frames"],
            "end_offset_frames": row["offset_frames"],
            "sure": row["trusted"],
        }
    ]


def _thinned(row: Mapping[str, Any]) -> list[tuple[float, float | None]]:
    """Times and confidences of a track, the means of as many windows as make `POINTS` points."""
    values: Sequence[float | None] = row["frame_confidence"]
    step = -(-len(values) // POINTS) or 1
    points: list[tuple[float, float | None]] = []
    for first in range(0, len(values), step):
        part = values[first : first + step]
        known = [value for value in part if value is not None]
        time = row["start_seconds"] + (first + len(part) / 2 + 1.5) / FPS
        points.append((time, sum(known) / len(known) if known else None))
    return points


def chart(
    layers: list[dict[str, Any]], values: list[dict[str, Any]], height: int, timed: bool = False
) -> dict[str, Any]:
    """A chart as wide as its place.

    Args:
        layers: of Vega-Lite, drawn one over the other.
        values: rows of their data.
        height: of the plot, pixels.
        timed: it has the parameter `now`, seconds, at which a cursor may stand.
    """
    return {
        "params": [{"name": "now", "value": 0}] if timed else [],
        "data": {"values": values},
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "layer": layers,
        "config": _CONFIG,
    }


def _offsets(axis: str, title: str) -> dict[str, Any]:
    more = {"axis": {"labelExpr": _SIGNED, "tickCount": 7, "grid": False}} if axis == "x" else {}
    return {"field": "ms", "type": "quantitative", "title": title, **more}


def _times(seconds: float, labels: bool = True) -> dict[str, Any]:
    axis = {"labelExpr": _CLOCK, "tickMinStep": 1, "grid": False, "labels": labels}
    scale = {"domain": [0, seconds], "nice": False}
    return {"field": "t", "type": "quantitative", "title": None, "scale": scale, "axis": axis}


def _y_axis(**more: Any) -> dict[str, Any]:
    return {"minExtent": _AXIS_WIDTH, "maxExtent": _AXIS_WIDTH, **more}


def _zero() -> dict[str, Any]:
    mark = {"type": "rule", "color": "var(--soft)", "strokeWidth": 0.8}
    return {"data": {"values": [{}]}, "mark": mark, "encoding": {"y": {"datum": 0}}}


def _cursor(seconds: float, labels: bool = True) -> dict[str, Any]:
    """A line where the video stands: at the parameter `now`, seconds."""
    x = _times(seconds, labels)
    del x["field"]
    return {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "color": "var(--now)", "strokeWidth": 2, "tooltip": None},
        "encoding": {"x": x | {"datum": {"expr": "now"}}},
    }


def _band(axis: str, tolerance: Tolerance | None) -> list[dict[str, Any]]:
    """What is within the tolerance, shaded."""
    if tolerance is None:
        return []
    limits = {"from": -tolerance.late_ms, "to": tolerance.early_ms}
    return [
        {
            "data": {"values": [limits]},
            "mark": {"type": "rect", "color": "var(--good)", "opacity": 0.14},
            "encoding": {
                axis: {"field": "from", "type": "quantitative"},
                f"{axis}2": {"field": "to"},
            },
        }
    ]
