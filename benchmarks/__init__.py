"""One question a file; each prints its answer and writes a JSON under results/."""

from data_tools.start import start_program

start_program()
