"""How fast is a track measured, in how much memory?  python -m benchmarks.inference_speed

Our one pass (`trainer.score.embed`) against the way of the official code, windows cut out of the
frames and batched by 20 (`benchmarks.official`), in turns on the same frames, with the same
weights of the published architecture; their embeddings are compared. Floor: the multiplications
of our pass at the rate of the best matrix product of this machine, measured between the rounds.
Then peak memory: of both on the same track, and of `trainer.sync` on a video of one minute and
one of ten, each in a
process of its own, with the small model, whose frames do not take all day.
"""

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from jsonargparse import Namespace
from numpy.typing import NDArray
from torch import nn

from benchmarks import official
from benchmarks.markdown import machine_line, table
from benchmarks.options import AtLeastOne, command_line, run
from benchmarks.processes import isolated
from benchmarks.result import report
from data_tools.cli import whole
from data_tools.errors import UserError
from data_tools.mfcc import FPS, SAMPLES_PER_FRAME, mfcc
from data_tools.synth.clips import render_clip
from trainer.model.device import Precision
from trainer.model.fold import fold
from trainer.model.syncnet import SyncNet
from trainer.score.embed import embed_lips, embed_sound

_SIZE = 224
_PRODUCT = 2048  # rows and columns of the matrices whose product gives the floor's rate
_LOOP = 500  # frames of a talking head that the long videos repeat
_VIDEO = 96  # pixels of the long videos

Track = tuple[NDArray[np.uint8], NDArray[np.int16]]
Embeddings = tuple[torch.Tensor, torch.Tensor]


def synthetic_track(frames: int) -> Track:
    """(frames, 224, 224, 3) RGB crops of a talking head and their sound."""
    return render_clip(np.random.default_rng(0), frames, _SIZE)


def published_model() -> SyncNet:
    """The published architecture with stand-in weights, folded."""
    model = SyncNet("syncnet")
    model.load_state_dict(official.stand_in_state(), strict=False)
    return fold(model.eval())


def ours(model: SyncNet, track: Track, precision: Precision = "fp32") -> Embeddings:
    """One pass over the track."""
    frames, audio = track
    sound = embed_sound(model, mfcc(audio), precision=precision)
    return embed_lips(model, [frames], precision=precision), sound


def flops_per_window(model: SyncNet) -> int:
    """Floating point operations of one window of lips and one of sound, two a multiplication."""
    counted = 0

    def count(layer: Any, inputs: Any, output: torch.Tensor) -> None:
        nonlocal counted
        counted += 2 * output.numel() * layer.weight[0].numel()

    hooks = [
        layer.register_forward_hook(count)
        for layer in model.modules()
        if isinstance(layer, (nn.Conv2d, nn.Conv3d, nn.Linear))
    ]
    size, channels = model.preset.size, model.preset.channels
    with torch.inference_mode():
        model(torch.zeros(1, 5, size, size, channels, dtype=torch.uint8), torch.zeros(1, 20, 13))
    for hook in hooks:
        hook.remove()
    return counted


def product_rate() -> float:
    """Floating point operations a second of a large float32 matrix product."""
    one = torch.rand(_PRODUCT, _PRODUCT)
    start = time.perf_counter()
    one @ one
    return 2 * _PRODUCT**3 / (time.perf_counter() - start)


def speed(frames: int, rounds: int) -> dict[str, Any]:
    """Both ways in turns; medians over the rounds."""
    track = synthetic_track(frames)
    state, model = official.stand_in_state(), published_model()
    bgr = np.ascontiguousarray(track[0][..., ::-1])
    found: dict[str, Embeddings] = {}
    ways: dict[str, Callable[[], Embeddings]] = {
        "official": lambda: official.embed(state, bgr, track[1]),
        "ours": lambda: ours(model, track),
        "ours, bf16": lambda: ours(model, track, "bf16"),
    }
    for precision in ("fp32", "bf16"):  # torch picks its kernels
        ours(model, (track[0][:40], track[1][: 40 * SAMPLES_PER_FRAME]), precision)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    rates = [product_rate() for _ in range(3)][1:]
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            found[name] = way()
            seconds[name].append(time.perf_counter() - start)
            rates.append(product_rate())
    ratios = {
        name: [slow / fast for slow, fast in zip(seconds["official"], seconds[name], strict=True)]
        for name in ("ours", "ours, bf16")
    }
    windows = frames - 4
    floor = flops_per_window(model) * windows / max(rates)
    return {
        "frames": frames,
        "video_seconds_per_s": {
            name: round(frames / FPS / median(own), 3) for name, own in seconds.items()
        },
        "ms_per_window": {
            name: round(1000 * median(own) / windows, 2) for name, own in seconds.items()
        },
        "times_faster": round(median(ratios["ours"]), 2),
        "times_faster_min": round(min(ratios["ours"]), 2),
        "times_faster_max": round(max(ratios["ours"]), 2),
        "times_faster_bf16": round(median(ratios["ours, bf16"]), 2),
        "gflops_per_window": round(flops_per_window(model) / 1e9, 2),
        "matrix_product_gflops_per_s": round(max(rates) / 1e9, 1),
        "floor_ms_per_window": round(1000 * floor / windows, 2),
        "of_floor": round(floor / median(seconds["ours"]), 3),
        "largest_relative_difference": float(f"{_difference(found, 'ours'):.1e}"),
        "largest_relative_difference_bf16": float(f"{_difference(found, 'ours, bf16'):.1e}"),
        "threads": torch.get_num_threads(),
    }


def _difference(found: dict[str, Embeddings], name: str) -> float:
    """Largest distance of two embeddings of one window as a share of their length."""
    worst = 0.0
    for own, other in zip(found[name], found["official"], strict=True):
        apart = (own[: len(other)] - other).norm(dim=1) / other.norm(dim=1)
        worst = max(worst, float(apart.max()))
    return worst


def embed_once(name: str, frames: int) -> None:
    """Embed a synthetic track one way; for a process of its own."""
    track = synthetic_track(frames)
    if name == "ours":
        ours(published_model(), track)
    else:
        official.embed(official.stand_in_state(), track[0][..., ::-1].copy(), track[1])


def long_video(folder: Path, seconds: int) -> Path:
    """A small talking head that repeats what it says, MP4; made once."""
    from benchmarks.videos import write_video

    path = folder / f"crop-{_VIDEO}-{seconds}s.mp4"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    heads, sound = render_clip(np.random.default_rng(1), _LOOP, _VIDEO)
    frames = FPS * seconds

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for number in range(frames):
            yield heads[number % _LOOP]

    repeated = np.tile(sound, -(-frames // _LOOP))[: SAMPLES_PER_FRAME * frames]
    write_video(path, pictures(), repeated, (_VIDEO, _VIDEO))
    return path


def sync_once(video: Path, weights: Path) -> float:
    """Measure a video by the command; returns the seconds it took."""
    from trainer import sync

    said = io.StringIO()
    start = time.perf_counter()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = sync.main([str(video), "--prepared", "--weights", str(weights)])
    if status != 0:
        raise UserError(f"trainer.sync ended with status {status}: {said.getvalue()}")
    return time.perf_counter() - start


def memory(folder: Path, frames: int, lengths: list[int]) -> dict[str, Any]:
    """Peak memory of both ways on one track, and of `trainer.sync` by the length of a video."""
    peaks = {}
    for name in ("ours", "official"):
        _, peak = isolated(embed_once, name, frames)
        peaks[name] = peak["peak_memory_mb"]
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "small-untrained.pt"
    torch.manual_seed(0)
    torch.save(SyncNet("small").state_dict(), weights)
    by_length = {}
    for seconds in lengths:
        took, peak = isolated(sync_once, long_video(folder, seconds), weights)
        by_length[str(seconds)] = {
            "peak_memory_mb": peak["peak_memory_mb"],
            "video_seconds_per_s": round(seconds / took, 1),
        }
    first, last = (by_length[str(seconds)]["peak_memory_mb"] for seconds in lengths)
    return {
        "peak_memory_mb": peaks,
        "memory_frames": frames,
        "sync_by_seconds": by_length,
        "memory_growth": round(last / first - 1, 3),
    }


def readme(result: dict[str, Any]) -> str:
    """One pass against windows batched by 20, floor, memory."""
    peaks, by_length = result["peak_memory_mb"], result["sync_by_seconds"]
    names = {
        "ours": "**ours**, one pass",
        "ours, bf16": "ours, `--precision bf16`",
        "official": "windows batched by 20",
    }
    rows = [
        [
            what,
            f"{result['video_seconds_per_s'][name]:.2f}",
            f"{result['ms_per_window'][name]:.1f} ms",
            f"{peaks[name]:,.0f} MB" if name in peaks else "",
        ]
        for name, what in names.items()
    ]
    (short, first), (long, last) = sorted(by_length.items(), key=lambda entry: int(entry[0]))
    return (
        table(["published architecture", "video seconds a second", "a window", "memory"], rows)
        + f"\n{result['times_faster']:.1f} times faster ({result['times_faster_min']:.1f} to "
        f"{result['times_faster_max']:.1f} over {result['repetitions']} rounds in turns, "
        f"{result['frames']} frames of 224x224, {result['threads']} threads), embeddings equal to "
        f"{result['largest_relative_difference']:.0e}; in bfloat16 "
        f"{result['times_faster_bf16']:.1f} times, to "
        f"{result['largest_relative_difference_bf16']:.0e}. A window takes "
        f"{result['gflops_per_window']:.1f} GFLOP, which the best matrix product of this machine "
        f"does in {result['floor_ms_per_window']:.1f} ms: ours runs at {result['of_floor']:.0%} of "
        f"that. `trainer.sync` with the small model: {first['peak_memory_mb']:,.0f} MB for "
        f"{int(short) / 60:.2g} min of video, {last['peak_memory_mb']:,.0f} MB for "
        f"{int(long) / 60:.2g} min, {last['video_seconds_per_s']:.0f} seconds of video a second. "
        f"{machine_line(result)}\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 something cannot be run."""
    parser = command_line("inference_speed", __doc__)
    parser.add_argument("--frames", type=whole("AtLeastSix", 6), default=164, help="of the track")
    parser.add_argument("--rounds", type=AtLeastOne, default=5)
    return run("inference_speed", parser, argv, _measure, {"frames": 6, "rounds": 1})


def _measure(args: Namespace) -> None:
    lengths = [4, 8] if args.quick else [60, 600]
    figures = speed(args.frames, args.rounds) | memory(args.cache, args.frames, lengths)
    report("inference_speed", figures, args.json, args.rounds, quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
