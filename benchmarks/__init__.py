"""One question a file; each prints its answer and writes a JSON under results/."""
