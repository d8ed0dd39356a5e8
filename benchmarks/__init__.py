"""One question a file; each prints its answer and writes a JSON under results/."""

from data_tools.interrupt import watch_start

watch_start()
