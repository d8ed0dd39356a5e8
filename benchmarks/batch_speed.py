"""How fast are many videos measured, by one worker and by two?  python -m benchmarks.batch_speed

Floor: the same videos measured one after another in one process with one thread, with the network
loaded (`trainer.score.video.measure`), nothing written. Against it `syncnet --out` with one worker
and with a worker a core, each a command of its own, in turns on the same videos: results synced one
by one, processes started and libraries loaded (some seconds, told apart by a run over one video).
The videos are synthetic heads, 360p with one face each, H.264 and AAC; the network is the
package's. Memory is that of the whole tree of processes.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from jsonargparse import Namespace

from benchmarks.markdown import machine_line, table
from benchmarks.options import AtLeastOne, AtLeastTwo, command_line, run
from benchmarks.processes import isolated
from benchmarks.result import report
from data_tools.errors import UserError

_PEOPLE = 4  # different heads


def make_videos(folder: Path, count: int, seconds: float) -> list[Path]:
    """Links to a few synthetic videos, which are made once."""
    from benchmarks.videos import small_video

    files = [small_video(folder, seconds, seed) for seed in range(min(count, _PEOPLE))]
    links = Path(tempfile.mkdtemp(prefix="videos-", dir=folder))
    for number in range(count):
        # copies, for a file by two names is measured once
        shutil.copyfile(files[number % len(files)], links / f"{number:04d}.mp4")
    return sorted(links.iterdir())


def one_by_one(videos: list[Path]) -> float:
    """Seconds to measure the videos in this process with one thread, nothing else."""
    import cv2
    import torch

    from data_tools.progress import heard_by
    from trainer.model.network import load_network
    from trainer.score.options import MeasureOptions
    from trainer.score.video import try_measuring

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    network, options = load_network(None, "cpu"), MeasureOptions(device="cpu")
    with heard_by(lambda: None):
        try_measuring(videos[0], network, options)  # loads the detector
        start = time.perf_counter()
        for video in videos:
            if not try_measuring(video, network, options)[0]:
                raise UserError(f"{video} gave no offset")
        return time.perf_counter() - start


def command(videos: list[Path], workers: int, work: Path) -> float:
    """Seconds that `syncnet --out` takes; for a process of its own."""
    import contextlib
    import io

    from trainer import sync

    out, said = Path(tempfile.mkdtemp(dir=work)), io.StringIO()
    listed = work / "videos.txt"
    listed.write_text("\n".join(map(str, videos)))
    arguments = [str(listed), "--out", str(out), "--workers", str(workers), "--device", "cpu"]
    start = time.perf_counter()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = sync.main(arguments)
    took = time.perf_counter() - start
    if status:
        raise UserError(f"syncnet --out ended with status {status}: {said.getvalue()[-500:]}")
    return took


def measure(folder: Path, count: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Video seconds a second of the ways, in turns; medians over the rounds; and memory."""
    os.environ.pop("OMP_NUM_THREADS", None)  # the command shares the cores out itself
    folder.mkdir(parents=True, exist_ok=True)
    videos = make_videos(folder, count, seconds)
    cores = len(os.sched_getaffinity(0))
    most = max(2, cores)
    took: dict[str, list[float]] = {"floor": [], "1": [], str(most): []}
    start_up, few, many = [], 0.0, 0.0
    try:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            for _ in range(rounds):
                took["floor"].append(isolated(one_by_one, videos)[0])
                start, peak = isolated(command, videos[:1], 1, Path(name))
                start_up.append(start)
                few = max(few, peak["peak_memory_mb"])
                took["1"].append(isolated(command, videos, 1, Path(name))[0])
                spent, peak = isolated(command, videos, most, Path(name))
                took[str(most)].append(spent)
                many = max(many, peak["peak_memory_mb"])
    finally:
        shutil.rmtree(videos[0].parent)
    ratios = [one / more for one, more in zip(took["1"], took[str(most)], strict=True)]
    return {
        "videos": count,
        "seconds_each": seconds,
        "rounds": rounds,
        "workers": most,
        "video_seconds_per_s": {
            way: round(count * seconds / median(own), 2) for way, own in took.items()
        },
        "start_seconds": round(median(start_up), 2),
        "times_faster": round(median(ratios), 2),
        "times_faster_min": round(min(ratios), 2),
        "times_faster_max": round(max(ratios), 2),
        "peak_memory_mb_one_video": few,
        "peak_memory_mb": many,
    }


def readme(result: dict[str, Any]) -> str:
    """One worker against several, and both against measuring alone."""
    rates, workers = result["video_seconds_per_s"], result["workers"]
    rows = [
        ["measuring alone, one process, one thread", f"{rates['floor']:.1f}"],
        ["`syncnet --out --workers 1`", f"{rates['1']:.1f}"],
        [f"`syncnet --out --workers {workers}`", f"{rates[str(workers)]:.1f}"],
    ]
    return (
        table(
            [
                f"{result['videos']} videos of {result['seconds_each']:g} s",
                "video seconds a second",
            ],
            rows,
        )
        + f"\n{workers} workers are {result['times_faster']:.2f} times as fast as one "
        f"({result['times_faster_min']:.2f} to {result['times_faster_max']:.2f} over "
        f"{result['rounds']} rounds in turns), start and end included; one video alone takes "
        f"{result['start_seconds']:.1f} s. Memory: {result['peak_memory_mb_one_video']:,.0f} MB "
        f"for one video and one worker, {result['peak_memory_mb']:,.0f} MB for all with {workers}. "
        f"{machine_line(result)}\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 something cannot be run."""
    parser = command_line("batch_speed", __doc__)
    parser.add_argument("--videos", type=AtLeastTwo, default=24)
    parser.add_argument("--seconds", type=AtLeastOne, default=8, help="of each")
    parser.add_argument("--rounds", type=AtLeastOne, default=5)
    quick = {"videos": 2, "seconds": 2, "rounds": 1}
    return run("batch_speed", parser, argv, _measure, quick)


def _measure(args: Namespace) -> None:
    figures = measure(args.cache, args.videos, args.seconds, args.rounds)
    report("batch_speed", figures, args.json, args.rounds, quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
