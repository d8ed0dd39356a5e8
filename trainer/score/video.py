"""From a video file to the offset of each of its face tracks."""

import tempfile
from dataclasses import replace
from pathlib import Path

from data_tools.atomic import NO_ROOM
from data_tools.cli import check_options
from data_tools.elsewhere import Copies, Elsewhere, video_name
from data_tools.errors import MissingPackage, UserError
from data_tools.names import first_line, shown
from trainer.model.device import is_device_fault
from trainer.model.network import Network, load_network
from trainer.score.faces import measure_faces
from trainer.score.options import MeasureOptions
from trainer.score.prepared import measure_prepared
from trainer.score.trust import SyncError, TrackResult


def measure_video(
    path: str | Path,
    options: MeasureOptions = MeasureOptions(),
    weights: str | Path | Network | None = None,
) -> list[TrackResult]:
    """Measure every face track of a video: by how much is its sound off, and is that certain?

    Tracks that cannot be scored are left out; `measure` says which and why.

    Args:
        path: any video that FFmpeg's libraries read, with sound, or the URL of one.
        options: how it is measured.
        weights: a file of weights, the name of a network of the package ("mouth"), or
            `trainer.model.network.load_network`'s, read once for many videos; the package's
            default if None.

    Returns:
        One result per track, at least one.

    Raises:
        SyncError: the video, or every track of it, cannot be measured.
        data_tools.video.sound.VideoError: it cannot be opened or has no sound.
        WeightsError: the weights cannot be used.
        UsageError: an option makes no sense, or there is no such device.
        MissingPackage: the extra [prepare] is not installed.
        All of them are a `data_tools.errors.UserError`.
    """
    check_options(options)
    if not isinstance(weights, Network):
        weights = load_network(weights, options.device)
    video = path if isinstance(path, Path) else video_name(path)
    with Copies() as copies:
        tracks, left_out = measure(copies.local(video), weights, options)
    if not tracks:
        raise SyncError(f"{shown(video)}: {'; '.join(left_out)}")
    return _named(tracks, video)


def measure(
    path: Path, network: Network, options: MeasureOptions = MeasureOptions()
) -> tuple[list[TrackResult], list[str]]:
    """Every face track of a video, and what was left out and why, in words.

    Args:
        path: any video that FFmpeg's libraries read, with sound.
        options: all but their device, which is the network's.

    Raises:
        SyncError: the video cannot be used at all.
        VideoError: it cannot be opened or has no sound.
        MissingPackage: the extra [prepare] is not installed.
    """
    way = measure_prepared if options.prepared else measure_faces
    with tempfile.TemporaryDirectory(prefix="syncnet-") as folder:
        return way(path, network, options, Path(folder))


def try_measuring(
    path: Path, network: Network, options: MeasureOptions, full_disk_ends: bool = False
) -> tuple[list[TrackResult], list[str]]:
    """As `measure`, but of a video that cannot be used the reason is all that was left out.

    Args:
        full_disk_ends: a disk without room for temporary files is raised, not told as the video's
            own fault.

    Raises:
        MissingPackage: as `measure`.
        OSError: as `full_disk_ends` has it; its file is the folder that is full.
    """
    try:
        return measure(path, network, options)
    except MissingPackage:
        raise  # every video would say so
    except OSError as error:
        if error.errno in NO_ROOM:
            folder, why = tempfile.gettempdir(), "no room for temporary files"
            if full_disk_ends:
                raise OSError(error.errno, f"{why}; TMPDIR names another folder", folder) from None
            return [], [f"{folder} has {why}; TMPDIR names another folder"]
        return [], [first_line(error)]
    except (UserError, RuntimeError) as error:
        if not isinstance(error, UserError) and not is_device_fault(error):
            raise
        return [], [first_line(error)]


def measure_anywhere(
    video: Path | Elsewhere, copies: Copies, network: Network, options: MeasureOptions
) -> tuple[list[TrackResult], list[str]]:
    """As `try_measuring`, also of a video that is no file here.

    Raises:
        MissingPackage: as `measure`, or a package that reads URLs is not installed.
    """
    try:
        path = copies.local(video)
    except MissingPackage:
        raise
    except UserError as error:
        return [], [first_line(error)]
    tracks, left_out = try_measuring(path, network, options)
    return _named(tracks, video), left_out


def _named(tracks: list[TrackResult], video: Path | Elsewhere) -> list[TrackResult]:
    """Results of a video's copy by the video's own name."""
    if isinstance(video, Path):
        return tracks
    return [replace(track, video=str(video)) for track in tracks]
