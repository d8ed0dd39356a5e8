"""What has been measured on which GPU, as a table: a row for each section of the suite."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu_suite.sections import SECTIONS
from benchmarks.markdown import machine_line, table

Figures = dict[str, Any]
NOTHING = (
    "**Nothing yet: no GPU has been at hand.** `python -m benchmarks.gpu_suite` measures all of it "
    "in one call of five minutes; on a CPU (`--device cpu --quick`) it only shows that it runs.\n"
)


def read(path: Path) -> Figures | None:
    """The result of a run on a GPU; None if there is none: a CPU's figures say nothing of one."""
    if not path.exists():
        return None
    result: Figures = json.loads(path.read_text(encoding="utf-8"))
    return None if result["device"] == "cpu" or result["quick"] else result


def readme(result: Figures | None) -> str:
    """The table, or that there is nothing to show."""
    if result is None:
        return NOTHING
    rows = [[SECTIONS[name].what, _told(name, result)] for name in SECTIONS]
    sheet = result["sections"].get("hardware", {})
    driver = f", driver {sheet['driver']}" if sheet.get("driver") else ""
    return (
        f"On one {result['machine']['gpu']}{driver}:\n\n"
        + table(["what", "measured"], rows)
        + _feeding(result["sections"].get("recipe", {}))
        + f"\nThe recipe is the seed's: `{result['model']}`, batches of "
        f"{result['batch_size']:,}; the seed itself computed 4,920 samples/s and trained at 512, "
        "300 epochs in 3 h 15 min. Utilisation counts first steps. "
        f"{machine_line(result)}\n"
    )


def _told(name: str, result: Figures) -> str:
    """A section's answer in words; why it has none."""
    found = result["sections"].get(name)
    if found is None:
        return "not measured"
    words = _TELLERS[name](found)
    if found["state"] == "done":
        return words
    text = re.split("[\u2500-\u257f]", str(found.get("error", "")))[0]  # frames of tables
    reason = " ".join(text.split()).replace("|", "/")[:160].rstrip(": ")
    return "; ".join(filter(None, [words, f"{found['state']}: {reason}"]))


def _hardware(found: Figures) -> str:
    named = found.get("decoders", {}).get("named", {})
    unit = sum(count for name, count in named.items() if "nvjpeg_hw" in name)
    packages = ", ".join(f"{name} {version}" for name, version in found.get("packages", {}).items())
    served = "is named" if unit else "is not named"
    kind = found.get("file_system")
    disk = f", folders on {kind}" if kind else ""
    return (
        f"{found.get('cores', '?')} cores, torch {found.get('torch', '?')}, CUDA "
        f"{found.get('cuda', '?')}, {packages}{disk}; the hardware JPEG decoder {served} in DALI's "
        "log"
    )


def _decode(found: Figures) -> str:
    return "; ".join(
        f"{name}: {each['mean']:g} levels in the mean, {each['max']:g} at most"
        for name, each in _parts(found)
    )


def _sync(found: Figures) -> str:
    ways = _parts(found)
    waiting = [f"{name}: {', '.join(each['places'])}" for name, each in ways if "places" in each]
    free = f"none, in {len(ways) - len(waiting)} of the {len(ways)} ways to train that were reached"
    return "; ".join([free, *waiting]) if ways else ""


def _reuse(found: Figures) -> str:
    return "; ".join(
        f"{name.replace('_', ' ')}: {each['differ']:,} of {each['frames']:,} frames differ, by "
        f"{each['most_levels']:g} levels at most"
        for name, each in _parts(found)
    )


def _faults(found: Figures) -> str:
    return "; ".join(
        f"{name}: {each['seconds']:g} s{_verdict(each)}"
        for name, each in _parts(found)
        if "right" in each
    )


def _verdict(fault: Figures) -> str:
    if fault["right"]:
        return ""
    return ": not found, the decoder takes it" if fault["accepted"] else ", not that clip alone"


def _memory(found: Figures) -> str:
    grown = {
        "gpu_used_mb_grown": "of the GPU",
        "torch_reserved_mb_grown": "of torch",
        "process_mb_grown": "of the process",
    }
    return ", ".join(f"{found[key]:+,.1f} MB {what}" for key, what in grown.items() if key in found)


def _resume(found: Figures) -> str:
    same = found.get("deterministic", {})
    told = [_losses(found), "with train.deterministic " + _losses(same) if "equal" in same else ""]
    return "; ".join(filter(None, told))


def _losses(found: Figures) -> str:
    if "equal" not in found:
        return ""
    return (
        f"{found['equal']} of {found['rows'][0]} losses equal; the largest difference is "
        f"{found['largest_difference_before']:.1e} before the kill and "
        f"{found['largest_difference_after']:.1e} after"
    )


def short(result: Figures | None) -> str:
    """A sentence or two for the front page."""
    recipe = (result or {}).get("sections", {}).get("recipe", {})
    trained = {n: e for n, e in recipe.get("together", {}).items() if "samples_per_s" in e}
    if result is None or not trained:
        return NOTHING
    name = max(trained, key=lambda name: trained[name]["samples_per_s"])
    best, step = trained[name], recipe["step_alone"]
    alone = recipe["loader_alone"]
    return (
        f"On one {result['machine']['gpu']} with {result['machine']['cores']} cores the seed's "
        f"recipe (batches of {result['batch_size']:,} windows in colour) trains at "
        f"**{best['samples_per_s']:,} samples/s, {best['times_the_seed']:.0f} times the seed's "
        f"512**: 300 epochs in {60 * best['hours_300_epochs']:.0f} minutes instead of 3 h 15 min. "
        f"The first step of an epoch waits {best['first_step_wait_ms']:,.0f} ms for its data in "
        f"the mean, the others {best['other_step_wait_ms']:,.1f} ms ({name}), and the GPU is busy "
        f"for {best['utilisation']:.0%} of the time. In samples/s, the step alone takes "
        f"{step['samples_per_s']:,}, the loader alone gives {alone[name]['samples_per_s']:,}.\n"
    )


def _recipe(found: Figures) -> str:
    if "step_alone" not in found:
        return ""
    step = found["step_alone"]
    return f"step alone {step['samples_per_s']:,} samples/s{_mfu(step)}; with loaders: below"


def _feeding(found: Figures) -> str:
    """A row for each way to feed the step of the recipe; nothing if none was measured."""
    alone, together = found.get("loader_alone", {}), found.get("together", {})
    compiled = found.get("compiled", {})
    names = {name: together.get(name, {}) for name in alone | together}
    if "together" in compiled:
        names[f"{compiled['way']}, step compiled"] = compiled["together"]
    rows = [
        [
            name + _empty(alone.get(name, {})),
            _count(alone.get(name, {}).get("samples_per_s")),
            *_with_step(each),
        ]
        for name, each in names.items()
    ]
    if not rows:
        return ""
    heads = [
        "frames come by", "loader alone, samples/s", "with the step", "of the seed's",
        "wait of first steps", "of others", "utilisation", "300 epochs", "MFU", "GPU memory",
    ]  # fmt: skip
    return "\n" + table(heads, rows)


def _empty(alone: Figures) -> str:
    """Says of a cache that was not full while it was measured that it was not."""
    share = alone.get("cached")
    if share is None or share == 1:
        return ""
    return f" ({share:.1%} full)" if share else " (not quite full)"


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _with_step(each: Figures) -> list[str]:
    if "samples_per_s" not in each:
        return [each.get("skipped", "") or each.get("error", "")[:60].replace("|", "/"), *[""] * 7]
    share = each.get("mfu_of_data_sheet_peak")
    memory = each.get("gpu_used_gb")
    return [
        f"**{each['samples_per_s']:,}**",
        f"{each['times_the_seed']:.1f} x",
        f"{each['first_step_wait_ms']:,.1f} ms",
        f"{each['other_step_wait_ms']:,.1f} ms",
        f"{each['utilisation']:.1%}",
        f"{60 * each['hours_300_epochs']:.0f} min",
        "" if share is None else f"{share:.1%}",
        "" if memory is None else f"{memory:.0f} GB",
    ]


def _mfu(figures: Figures) -> str:
    if "mfu_of_data_sheet_peak" not in figures:
        return ""
    return (
        f", MFU {figures['mfu_of_data_sheet_peak']:.1%} of the data sheet's peak, "
        f"{figures['mfu_of_measured_peak']:.1%} of the measured one"
    )


def _steps(found: Figures) -> str:
    ways = {name: each for name, each in found.get("ways", {}).items() if "step_ms" in each}
    if not ways:
        return ""
    ranked = sorted(ways, key=lambda name: ways[name]["step_ms"])
    told = [f"{name}: {ways[name]['step_ms']:g} ms" for name in ranked]
    told += [f"{name}: not reached" for name, each in found["ways"].items() if "skipped" in each]
    return f"batches of {found['batch_size']:,}; " + "; ".join(told)


def _single(found: Figures) -> str:
    told = []
    for name, rates in _parts(found):
        numbers = {piece: rate for piece, rate in rates.items() if isinstance(rate, int | float)}
        if numbers:
            best = max(numbers, key=lambda piece: numbers[piece])
            told.append(f"{name}: best {best}, {numbers[best]:,}")
    return "; ".join(told)


def _host(found: Figures) -> str:
    told = []
    if isinstance(rates := found.get("loader_samples_per_s"), dict):
        told += [f"{how}: {max(each):,} samples/s" for how, each in rates.items()]
    elif "loader" in found:
        told.append(found["loader"])
    for how, rate in found.get("copy_gb_per_s", {}).items():
        told.append(f"copies from {how} memory: {rate:g} GB/s")
    return "; ".join(told)


def _parts(found: Figures) -> list[tuple[str, Figures]]:
    """The figures of a section that are figures of parts of it."""
    return [(name, each) for name, each in found.items() if isinstance(each, dict)]


_TELLERS: dict[str, Callable[[Figures], str]] = {
    "hardware": _hardware,
    "decode": _decode,
    "sync": _sync,
    "reuse": _reuse,
    "faults": _faults,
    "resume": _resume,
    "recipe": _recipe,
    "steps": _steps,
    "memory": _memory,
    "single": _single,
    "host": _host,
}
