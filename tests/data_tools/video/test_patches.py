"""Parts of pictures are converted to the same bytes as the whole picture."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from data_tools.video.convert import Converter
from data_tools.video.crop import cut
from data_tools.video.patches import Patches

SQUARES = [(310.5, 200.2, 180.0), (12.0, 9.5, 96.3), (630.0, 350.0, 400.0), (-40.0, 700.0, 60.0)]


def noise(width: int, height: int, pixels: str = "yuv420p") -> av.VideoFrame:
    frame = av.VideoFrame(width, height, pixels)
    rng = np.random.default_rng(width)
    for plane in frame.planes:
        np.frombuffer(plane, np.uint8)[:] = rng.integers(0, 256, plane.buffer_size, np.uint8)
    return frame


@pytest.mark.parametrize("size", [(640, 360), (454, 256), (1280, 720), (98, 66)])
@pytest.mark.parametrize("colours", [(2, 0), (1, 1), (5, 2)])
def test_crops_are_those_of_the_whole_picture(size: tuple[int, int], colours: tuple[int, int]):
    frame = noise(*size)
    frame.colorspace, frame.color_range = colours
    converter = Converter()
    whole, patches = converter.rgb(frame), Patches(converter)
    for x, y, side in SQUARES:
        part = patches.rgb(frame, [(x, y, side)])
        for out in (32, 224):  # halved first, and not
            expected = cut(whole, (x, y), side, out)
            assert np.array_equal(cut(part, (x, y), side, out), expected)


def test_most_of_a_large_picture_is_not_converted():
    frame = noise(1280, 720)
    part = Patches(Converter()).rgb(frame, [(300.0, 300.0, 100.0)])
    assert part.shape == (720, 1280, 3) and part.any(axis=2).mean() < 0.1


@pytest.mark.parametrize("frame", [noise(101, 75), noise(640, 360, "yuv444p")], ids=["odd", "444"])
def test_pictures_of_other_kinds_are_converted_as_a_whole(frame: av.VideoFrame):
    part = Patches(Converter()).rgb(frame, [(30.0, 30.0, 8.0)])
    assert np.array_equal(part, Converter().rgb(frame))


@pytest.mark.parametrize("size", [(640, 360), (101, 75), (256, 256)])
@pytest.mark.parametrize("kind", ["yuv420p", "yuvj420p", "yuv444p"])
@pytest.mark.parametrize("colours", [(2, 0), (1, 1), (5, 2)])
def test_gray_crops_are_those_of_the_whole_picture(
    size: tuple[int, int], kind: str, colours: tuple[int, int]
):
    frame = noise(*size, kind)
    frame.colorspace, frame.color_range = colours
    converter = Converter()
    whole, patches = converter.plain(frame, gray=True), Patches(converter)
    for x, y, side in SQUARES:
        part = patches.gray(frame, (x, y, side))
        for out in (32, 224):
            expected = cut(whole, (x, y), side, out)
            assert np.array_equal(cut(part, (x, y), side, out), expected)


def test_pixels_that_are_no_squares_are_converted_as_a_whole():
    frame = noise(64, 96)
    wide = Converter(Fraction(2))
    assert Patches(wide).gray(frame, (30.0, 30.0, 8.0)).shape == (96, 128)
