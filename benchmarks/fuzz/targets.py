"""Every target by its name, in the order in which they are tried."""

from benchmarks.fuzz import media, settings, shards, text, weights
from benchmarks.fuzz.child import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for targets in (shards.TARGETS, text.TARGETS, settings.TARGETS, weights.TARGETS, media.TARGETS)
    for target in targets
}
