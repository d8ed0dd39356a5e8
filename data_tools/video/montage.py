"""A picture of what `prepare` saw in a video: scenes with the tracks' boxes, and every track."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from data_tools.mfcc import FPS
from data_tools.video.record import Row
from data_tools.video.track_file import TrackFile
from data_tools.video.tracks import Track

_WIDTH, _COLUMNS, _CROPS, _TRACKS = 1200, 4, 10, 24
_COLOURS = [(80, 220, 80), (255, 170, 40), (60, 160, 255), (255, 90, 200), (250, 230, 60)]


class Montage:
    """Collects pictures of a video while it passes: evenly spread, however long it is."""

    def __init__(self, pictures: int = 12) -> None:
        self._most = pictures
        self._every = 1
        self._seen: list[tuple[int, NDArray[np.uint8], float]] = []
        self._count = 0

    def see(self, index: int, picture: NDArray[np.uint8], scale: float) -> None:
        """picture: (H, W, 3) RGB; `scale` times its coordinates are the tracks'."""
        if self._count % self._every == 0:
            self._seen.append((index, picture, scale))
            if len(self._seen) > 2 * self._most:
                self._seen, self._every = self._seen[::2], self._every * 2
        self._count += 1

    def draw(
        self, work: Path, tracks: list[Track], rows: list[Row], crops: dict[int, TrackFile]
    ) -> None:
        """Draw work/montage.jpg.

        rows: the report's; crops: of each track, by its number.
        """
        verdicts = {row.item: row for row in rows if row.level == "track"}
        scenes = sorted(self._seen, key=lambda entry: entry[0])
        scenes = scenes[:: -(-len(scenes) // self._most)]
        tiles = [self._scene(*scene, tracks, verdicts) for scene in scenes]
        sheet = []
        for begin in range(0, len(tiles), _COLUMNS):
            beside = tiles[begin : begin + _COLUMNS]
            height = max(tile.shape[0] for tile in beside)
            beside = [_pad(tile, height, _WIDTH // _COLUMNS) for tile in beside]
            sheet.append(_pad(np.concatenate(beside, axis=1), height, _WIDTH))
        # Kept ones first, then by length.
        order = sorted(
            tracks, key=lambda t: (not verdicts[f"track {t.number}"].kept, t.first - t.last)
        )
        for track in order[:_TRACKS]:
            row = verdicts[f"track {track.number}"]
            words = (
                f"track {track.number}, shot {track.shot}: {row.start_seconds:.2f}-"
                f"{row.end_seconds:.2f} s, {row.frames} frames"
            )
            if row.face_size is not None and row.confidence is not None:
                words += f", face {row.face_size:.0f} px, confidence {row.confidence:.2f}"
            words += f": {'kept' if row.kept else row.detail}"
            sheet.append(_caption(words, _COLOURS[track.number % len(_COLOURS)]))
            sheet.append(_strip(track, crops[track.number]))
        if len(order) > _TRACKS:
            sheet.append(_caption(f"and {len(order) - _TRACKS} more tracks", (200, 200, 200)))
        if sheet:
            whole = cv2.cvtColor(np.concatenate(sheet), cv2.COLOR_RGB2BGR)
            (work / "montage.jpg").write_bytes(cv2.imencode(".jpg", whole)[1].tobytes())

    def _scene(
        self,
        index: int,
        picture: NDArray[np.uint8],
        scale: float,
        tracks: list[Track],
        verdicts: dict[str, Row],
    ) -> NDArray[np.uint8]:
        width = _WIDTH // _COLUMNS
        zoom = width / picture.shape[1]
        tile = cv2.resize(picture, (width, max(1, round(picture.shape[0] * zoom))))
        for track in tracks:
            if track.faces and track.first <= index <= track.last:
                box = track.boxes(index, index + 1)[0] * zoom / scale
                left, top, right, bottom = (round(float(value)) for value in box)
                colour = _COLOURS[track.number % len(_COLOURS)]
                thick = 2 if verdicts[f"track {track.number}"].kept else 1
                cv2.rectangle(tile, (left, top), (right, bottom), colour, thick)
                cv2.putText(tile, str(track.number), (left, max(top - 3, 10)), 0, 0.4, colour, 1)
        cv2.putText(
            tile, f"{index / FPS:.2f} s", (4, tile.shape[0] - 5), 0, 0.4, (255, 255, 255), 1
        )
        return np.asarray(tile, np.uint8)


def _strip(track: Track, crops: TrackFile) -> NDArray[np.uint8]:
    side = _WIDTH // _CROPS
    tiles = []
    for jpeg in crops.read(np.linspace(track.first, track.last, _CROPS).astype(int).tolist()):
        picture = simplejpeg.decode_jpeg(jpeg, "RGB")
        tiles.append(cv2.resize(picture, (side, side)))
    return _pad(np.asarray(np.concatenate(tiles, axis=1), np.uint8), side, _WIDTH)


def _caption(words: str, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    band = np.zeros((18, _WIDTH, 3), np.uint8)
    cv2.putText(band, words, (4, 13), 0, 0.4, colour, 1)
    return band


def _pad(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    out = np.zeros((height, width, 3), np.uint8)
    out[: picture.shape[0], : picture.shape[1]] = picture[:height, :width]
    return out
