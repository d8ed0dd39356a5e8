"""The commands of `python -m data_tools`, one per module: parse, call, print, exit status."""
