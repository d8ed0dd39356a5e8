"""How long the field's data sets take to prepare, by the rates of `benchmarks.prepare_speed`."""

from typing import Any

from benchmarks.markdown import table

# Hours of video, noted down from memory of the papers and unchecked; whether they are face crops.
DATA_SETS = {
    "VoxCeleb2": (2442, True),
    "LRS2": (224, True),
    "LRS3": (438, True),
    "HDTF": (16, False),
    "GRID": (28, False),
    "MEAD": (39, False),
    "CREMA-D": (5, False),
    "TalkVid": (1244, False),
}
_CORES = (2, 16, 64)


def readme(result: dict[str, Any]) -> str:
    """Hours of work on 2, 16 and 64 cores: measured on those of the result, the rest in proportion.

    Crops are taken as mouths found once a clip; before they were measured, as if searched.
    """
    each = result["processes"]
    searched = result["seconds_per_second_all_cores"] / each
    crops = result.get("crops")
    found = crops["mouth_all_cores"] / each if crops else searched
    rows = []
    for name, (hours, cropped) in DATA_SETS.items():
        rate = found if cropped else searched
        rows.append([name, *(in_words(hours / (rate * cores)) for cores in _CORES)])
    words = f"Hours of video / ({searched:.1f} x cores): so many video seconds a second a core "
    if crops:
        words += f"searches of 720p, and {found:.1f} of face crops, of which a mouth is found once."
    else:
        words += "searches of 720p. Face crops are counted as searched: their own rate is not "
        words += "measured yet."
    heads = ["prepared to mouths in", *(f"{cores} cores" for cores in _CORES)]
    return f"{table(heads, rows)}\n{words} Measured on {each} cores; the rest is in proportion.\n"


def in_words(hours: float) -> str:
    """A length of time: "40 min", "5.2 h", "4.1 days"."""
    if hours < 1:
        return f"{max(1, round(60 * hours))} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
