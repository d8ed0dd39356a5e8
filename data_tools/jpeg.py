"""JPEGs of clips: decoded strictly, measured without decoding, encoded anew."""

import struct
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from data_tools.clips import ClipError

DEFAULT_QUALITY = 90
MAX_SIDE = 4096  # pixels, of a frame
_MAX_SCANS = 100  # of a progressive JPEG: each costs a pass over the whole picture; ten are usual


@dataclass(frozen=True)
class Conversion:
    """What `pack` may change about a frame; nothing by default, then JPEG bytes stay untouched."""

    size: int | None = None
    gray: bool = False
    quality: int | None = None

    @property
    def changes_frames(self) -> bool:
        """Whether frames are encoded anew."""
        return self.size is not None or self.gray or self.quality is not None


def decode_jpeg(jpeg: bytes, name: str) -> NDArray[np.uint8]:
    """Decode strictly: (H, W, 1) for a gray JPEG, else (H, W, 3) RGB, uint8.

    Raises:
        ClipError: the JPEG is truncated, corrupt or no JPEG, a side is longer than MAX_SIDE, or it
            is one that decoders show differently.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(jpeg)
        if max(height, width) > MAX_SIDE:
            raise ClipError(
                "picture too large",
                f"{name} is {width}x{height}; a side may have {MAX_SIDE} pixels at most",
            )
        if jpeg.count(b"\xff\xda") > _MAX_SCANS:
            raise ClipError("corrupt JPEG", f"{name} has more than {_MAX_SCANS} scans")
        if colours in ("CMYK", "YCCK"):
            raise ClipError("colours for print", f"{name} is {colours}; convert it to RGB")
        turned = _orientation(jpeg)
        if 2 <= turned <= 8:
            raise ClipError(
                "turned picture",
                f"{name} is to be turned by its EXIF orientation {turned}; store it upright",
            )
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            jpeg, "GRAY" if colours == "Gray" else "RGB", fastdct=False, fastupsample=False
        )
        return pixels
    except ClipError:
        raise
    except Exception as error:  # whatever a decoder may meet in bytes from outside
        truncated = "remature end" in str(error)
        raise ClipError(
            "truncated JPEG" if truncated else "corrupt JPEG", f"{name}: {error}"
        ) from None


def jpeg_size(jpeg: NDArray[np.uint8]) -> tuple[int, int, int] | None:
    """Height, width and the number of bytes up to them; None: no JPEG.

    `jpeg`: (bytes,) uint8. Markers are read as libjpeg reads them, in order and without searching,
    so that whatever begins with the same bytes is of the same size.
    """
    head = jpeg.data
    end = len(head)
    if bytes(head[:2]) != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= end and head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xFF:  # fill
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:  # have no length
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return head[at + 5] << 8 | head[at + 6], head[at + 7] << 8 | head[at + 8], at + 9
        elif marker in (0x00, 0xD8, 0xD9, 0xDA):
            return None
        else:
            # The length counts its own two bytes; libjpeg passes over those where it says less.
            at += 2 + max(2, head[at + 2] << 8 | head[at + 3])
    return None


def convert(pixels: NDArray[np.uint8], conversion: Conversion) -> tuple[NDArray[np.uint8], bytes]:
    """`pixels`, (H, W, 1 or 3) uint8, converted, and their JPEG."""
    if conversion.gray and pixels.shape[2] == 3:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None], np.uint8)
    if conversion.size is not None and pixels.shape[:2] != (conversion.size, conversion.size):
        shrinking = conversion.size < max(pixels.shape[:2])
        resized = cv2.resize(
            pixels,
            (conversion.size, conversion.size),
            interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC,
        )
        pixels = np.asarray(resized, np.uint8).reshape(conversion.size, conversion.size, -1)
    pixels = np.ascontiguousarray(pixels)
    colorspace = "GRAY" if pixels.shape[2] == 1 else "RGB"
    subsampling = "Gray" if pixels.shape[2] == 1 else "420"
    jpeg = simplejpeg.encode_jpeg(
        pixels, conversion.quality or DEFAULT_QUALITY, colorspace, subsampling, fastdct=False
    )
    return pixels, jpeg


def _orientation(jpeg: bytes) -> int:
    """How EXIF says that a picture is to be turned; 1: it stands upright."""
    at = jpeg.find(b"Exif\0\0", 0, 1 << 16)
    tiff = jpeg[at + 6 : at + (1 << 16)] if at >= 0 else b""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2], "")
    if not order:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, first)
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
            if tag == 0x0112:
                return int(value)
    except struct.error:
        pass  # damaged; decoders pass over it as well
    return 1
