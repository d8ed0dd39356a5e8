"""Make synthetic talking-head clips whose lips and speech agree, for tests and the demo.

    python -m data_tools synth OUT --clips 250 --seed 1 --size 96 --seconds 3 --offsync 0.2

writes OUT/<clip>/audio.wav (16 kHz mono, 16 bit), OUT/<clip>/frames/frame0.jpg ... (25 per second)
and OUT/truth.csv. Every clip is another person and another voice. Clip k depends only on the seed,
k, the size and the length (and, off sync, on its kind), so fewer clips are a prefix of more.
A run that was killed goes on where it stopped when started again with the same arguments.
"""

import time
from dataclasses import asdict

from data_tools.cli import add_options, command, exit_status, file_name, parse, read_options
from data_tools.mfcc import FPS
from data_tools.progress import progress
from data_tools.synth.clips import TRUTH, SynthOptions, frames_per_clip, synthesize
from data_tools.workers import WorkerOptions

PROGRAM = "python -m data_tools synth"


def main(argv: list[str]) -> int:
    """Run `synth`."""
    return exit_status(PROGRAM, lambda: _synth(argv), "interrupted; run it again to go on")


def _synth(argv: list[str]) -> None:
    parser = command(PROGRAM, __doc__)
    parser.add_argument("out", type=file_name, help="folder to make (empty or not there)")
    add_options(parser, SynthOptions)
    add_options(parser, WorkerOptions)
    args = parse(parser, argv)
    options = read_options(SynthOptions, args)
    started = time.monotonic()
    with progress("clips", options.clips, "clips") as advance:
        synthesize(args.out, **asdict(options), workers=args.workers, on_clip=lambda: advance(1))
    speech = options.clips * frames_per_clip(options.seconds) / FPS
    took = time.monotonic() - started
    print(f"{options.clips} clips ({speech:.0f} s of video) in {args.out}, made in {took:.1f} s")
    print(f"what is true of each clip: {args.out / TRUTH}")
