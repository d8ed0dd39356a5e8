"""What happens when one of our programs starts, before it loads its libraries."""

import os
import sys

from data_tools.interrupt import watch_start

_PACKAGES = ("data_tools", "trainer", "benchmarks")
_INSTALLED = ("syncnet", "syncnet-train", "syncnet-data")


def start_program() -> None:
    """Listen to Ctrl-C and keep NumPy to one thread.

    Only where `python -m` or an installed command is about to run one of our programs: a library
    changes nothing of whoever imports it.
    """
    name = os.path.basename(sys.argv[0])
    if name == "-m":  # so while Python looks for the module
        name = _module(sys.orig_argv)
        if name.partition(".")[0] not in _PACKAGES:
            return
    elif name not in _INSTALLED:
        return
    watch_start(name)
    for variable, value in one_blas_thread().items():
        os.environ.setdefault(variable, value)


def _module(command: list[str]) -> str:
    """The module that a command line runs: `python -X dev -m NAME`, `-Im NAME`, `-mNAME`."""
    words = iter(command[1:])
    for word in words:
        if word in ("-X", "-W"):
            next(words, "")
        elif word.startswith("-") and word[1:2] not in ("X", "W", "-") and "m" in word:
            return word.partition("m")[2] or next(words, "")
    return ""


def one_blas_thread() -> dict[str, str]:
    """The variable that keeps NumPy's BLAS to one thread, where OMP_NUM_THREADS says nothing.

    It is read when NumPy is loaded. After a product, as of `mfcc`, each of that BLAS's threads goes
    on spinning for 0.1 s (measured) on a core that torch, detectors and decoders want. On other
    processors than these torch computes with a BLAS that reads the same variable, so there it is
    left alone.
    """
    if "OMP_NUM_THREADS" in os.environ or os.uname().machine != "x86_64":
        return {}
    return {"OPENBLAS_NUM_THREADS": "1"}
