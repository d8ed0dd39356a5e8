"""Train SyncNet: `python -m trainer.run --data.shards DIR --model.name syncnet ...`.

Without arguments it makes a synthetic set once, packs it, trains the small model and evaluates it:
a three-minute look at everything. On several GPUs:
`torchrun --nproc-per-node N -m trainer.run ...`.
"""

import logging
import os
import shutil
import sys

from rich.console import Console
from rich.logging import RichHandler

from data_tools.cli import exit_status
from data_tools.mirror import open_sets
from data_tools.workers import end_with_parent
from trainer.config import check
from trainer.config.command import parse
from trainer.config.crops import crop_notes
from trainer.config.settings import several
from trainer.train.distributed import Elsewhere
from trainer.train.trainer import train


def main(argv: list[str] | None = None) -> int:
    """Run from the command line; 0 done or stopped cleanly, 1 the data is bad, 2 wrong usage."""
    end_with_parent()
    console = Console(quiet=int(os.environ.get("RANK", "0")) != 0, width=_width())
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=console)]
    )

    def work() -> int:
        config, options = parse(sys.argv[1:] if argv is None else argv)
        check(config)
        open_sets(several(config.data.shards), config.data.copies)
        for note in crop_notes(config):
            console.print(note, soft_wrap=True)
        try:
            train(config, options, console)
        except Elsewhere:  # the first process says what happened
            return 1
        return 0

    stopped = "interrupted; --resume auto goes on if it had begun"
    # A training saves when it is told to stop; what waits for other processes dies at once.
    return exit_status("trainer.run", work, stopped, own_signals=True)


def _width() -> int | None:
    # Redirected output has no width of its own; tables would be squeezed into 80 columns.
    return None if sys.stdout.isatty() else max(110, shutil.get_terminal_size().columns)


if __name__ == "__main__":
    sys.exit(main())
