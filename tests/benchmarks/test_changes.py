"""Changes that are planted in a track, and how what is said of them is counted."""

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks.changes import main, readme
from benchmarks.planted import Take, head
from benchmarks.told import Drift, Tally
from measured import track_result
from trainer.model.network import Network
from trainer.model.syncnet import SyncNet
from trainer.score.embed import embed_lips
from trainer.score.offset_path import OffsetPath, Segment
from trainer.score.trust import TrackResult


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network(SyncNet("small").eval())


@pytest.fixture(scope="module")
def take(network: Network) -> Take:
    return head(1, 2.0, network)


def said(path: OffsetPath) -> TrackResult:
    track = track_result(0)
    score = dataclasses.replace(track.score, path=path, frames_K=np.ones(path.segments[-1].last))
    return dataclasses.replace(track, score=score, end_seconds=20.0)


def test_a_cut_embeds_what_spans_it_anew(take: Take, network: Network) -> None:
    cut = take.cut(network, 20, 7)
    whole = embed_lips(network.model, [cut.frames_NHW[:, :, :, None]])
    torch.testing.assert_close(cut.lips_KD, whole, rtol=1e-4, atol=1e-4)
    assert len(cut.frames_NHW) == 43 and len(cut.audio) == 43 * 640
    part = take.part(10, 30)
    assert len(part.lips_KD) == 16 and part.seconds == 0.8


def test_sound_is_early_by_so_much(take: Take) -> None:
    early = take.heard(3.0)
    np.testing.assert_array_equal(early.audio[:-1920], take.audio[1920:])
    assert not early.audio[-1919:].any()


def test_what_is_said_is_counted() -> None:
    tally = Tally()
    jumped = OffsetPath((Segment(0, 248, 1, 1, 9.0), Segment(248, 496, 5, 5, 9.0)))
    tally.jump(said(jumped), 10.3, 4)
    tally.jump(said(jumped), 10.8, 4)  # found, but not within half a second
    tally.jump(said(jumped), 10.0, -4)
    tally.none(said(jumped))
    tally.none(said(OffsetPath((Segment(0, 496, 1, 1, 9.0),))))
    tally.drifts += [Drift("a", 1000, 1110.0, 60.0), Drift("a", -1000, 0.0, 60.0)]
    tally.drifts += [Drift("a", 5000, 5075.0, 60.0), Drift("b", 5000, 4975.0, 60.0)]
    figures = tally.figures()
    assert (figures["jumps"], figures["recall"], figures["within_a_second"]) == (3, 0.3333, 0.6667)
    assert (figures["precision"], figures["false_changes"]) == (0.3333, 0.5)
    drift = figures["drifts"]["1000"]
    assert (drift["within_a_tenth"], drift["not_told"], drift["tracks"]) == (0.0, 1, 2)
    # "a" drifts by 100 ppm itself, as its others say: 5,000 of the sound's are 4,975 of the
    # picture's. The one that was not told stays missed.
    assert drift["own_ppm"] == [100, 105] and drift["within_a_tenth_beside_own"] == 0.5
    assert figures["drifts"]["5000"]["own_ppm"] == [111, 0]
    # the range of a jump without one is its moment
    assert figures["in_the_range_told"] == 0.0 and figures["median_range_seconds"] == 0.0
    table = readme({"groups": {"talking": figures}, "all": figures})
    told = "| 3 | 33.3% | 33.3% | 66.7% | 33.3% | 0.0% | 0.00 s | 0.30 s | 2 | 50.0% |"
    assert f"{told} 0 of 2, 56% \\| 1 of 2, 51% |" in table


def test_it_needs_something_to_plant_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2 and "must be given" in capsys.readouterr().err
