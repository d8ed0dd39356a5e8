"""Ctrl-C while a program still loads its libraries: one sentence, as from then on."""

import os
import sys
from types import TracebackType


def watch_start() -> None:
    """Let Ctrl-C that comes before a program's own handling end it with a sentence, status 130.

    Only where `python -m` or an installed command is about to run one of our programs: a library
    changes nothing of whoever imports it.
    """
    name = os.path.basename(sys.argv[0])
    if name == "-m" and "-m" in sys.orig_argv:  # so while Python looks for the module
        name = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    elif name not in ("syncnet", "syncnet-train", "syncnet-data"):
        return
    before = sys.excepthook

    def told(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            before(kind, error, traceback)
            return
        print(f"{name}: interrupted", file=sys.stderr, flush=True)
        os._exit(130)  # half-loaded libraries have nothing to finish, and some would crash

    sys.excepthook = told
