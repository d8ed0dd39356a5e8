"""All kinds of faults, in the order in which they are played."""

from benchmarks.faults import damage, disks, kills, training, web, workers

KINDS = [
    kind for module in (kills, disks, training, damage, workers, web) for kind in module.kinds()
]
