"""Strangers: who they are, what is asked about them, and what counts as right."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.strangers import __main__ as command
from benchmarks.strangers import tables
from benchmarks.strangers.groups import GROUPS, Video, listed
from benchmarks.strangers.truth import (
    LENGTHS,
    WHOLE,
    Asked,
    Judge,
    Stranger,
    ask,
    by_length,
    doubtful_shares,
    measure,
    parts_of,
    tally,
    try_unknown,
)
from data_tools.errors import UserError
from data_tools.manifest import ClipRecord
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.synth.clips import synthesize
from trainer.model.network import Network
from trainer.model.syncnet import SyncNet
from trainer.score.scoring import REACH, score
from trainer.score.trust import Doubt, TrackResult

RECORD = ClipRecord("clip", "clip", "source", 60, 240, 64, 64, 1, 0, "0" * 64)


def test_the_list_says_who_speaks() -> None:
    videos = listed()
    speakers = {group: {v.speaker for v in videos if v.group == group} for group in GROUPS}
    counts = [sum(v.group == group for v in videos) for group in GROUPS]
    assert counts == [37, 10, 16, 1] and [len(speakers[g]) for g in GROUPS] == [13, 10, 16, 1]
    of = {video.name: video for video in videos}
    assert of["swiz3n"].speaker == of["s26_bgbsza"].speaker != of["s31_bgiq6p"].speaker
    assert of["lrs_224_15s"].offset == -3 and of["retalk_face4"].offset is None
    unknown = [v.name for v in videos if v.group == "talkvid" and v.offset is None]
    assert len(unknown) == 15 and of["ar"].offset == -1
    assert of["hi"].plausible(3) and not of["hi"].plausible(4) and of["retalk_face4"].plausible(9)
    assert all(v.offset == 0 for v in videos if v.group == "grid")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a.mp4,nobody,x,0", "'nobody' is none of grid"),
        ("a.mp4,grid,x,1.5", "'1.5' is no offset"),
        ("a.mp4,grid,x,0\nb/a.mpg,grid,y,0", "two videos are called a"),
    ],
)
def test_a_list_with_a_mistake_is_named(row: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"video,group,speaker,offset_frames\n{row}\n")
    with pytest.raises(UserError, match=said):
        listed(tmp_path / "list.csv")


@given(st.integers(1, 1600))
def test_parts_lie_in_the_clip_and_share_no_frame(windows: int) -> None:
    parts = parts_of(windows)
    assert parts[0] == (WHOLE, 0, windows)
    for length, (least, middle) in LENGTHS.items():
        spans = [(first, first + count + 4) for name, first, count in parts if name == length]
        assert bool(spans) == (windows + 4 >= least)
        assert all(least <= end - first <= middle for first, end in spans)
        assert all(end <= after for (_, end), (after, _) in pairwise(spans))
        assert not spans or windows + 4 - spans[-1][1] < spans[0][1]  # no room for another
        assert not spans or spans[-1][1] <= windows + 4


def stranger(
    early: int, offset: int | None, seed: int, windows: int = 90, deaf: bool = False
) -> Stranger:
    """A clip as a good network sees it; a deaf one hears other things than are said."""
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(windows + 40, 8))
    lips = content[20 : 20 + windows]
    heard = rng.normal(size=content.shape) if deaf else content
    sound = heard[20 + early : 20 + early + windows]
    parts = (torch.from_numpy(part).float() for part in (lips, sound))
    video = Video(Path(f"v{seed}.mp4"), "grid", f"s{seed % 3}", offset)
    record = replace(RECORD, key=f"k{seed}", frames=windows + 4)
    return Stranger(video, record, np.zeros(1, np.int16), *parts, np.ones(windows, np.bool_))


def judge_if(trusts: bool) -> Judge:
    def judge(seen: Stranger, first: int, heard: Stranger, at: int, windows: int) -> TrackResult:
        lips, sound = seen.lips_KD[first : first + windows], heard.sound_KD[at : at + windows]
        assert len(lips) == len(sound) == windows and at >= 0  # never beyond the clip
        doubts = () if trusts else (Doubt("never"),)
        return TrackResult("", "", 0, 1, 1.0, score(lips, sound, REACH), None, doubts)

    return judge


@pytest.mark.parametrize("offset", [-3, None])
def test_a_network_that_hears_is_right_whether_the_truth_is_known_or_not(
    offset: int | None,
) -> None:
    found = by_length(ask([stranger(-3, offset, seed) for seed in range(3)], judge_if(True)))
    assert list(found) == [WHOLE, "whole, >= 3 s", "1-2 s", "2-4 s"]
    for figures in found.values():
        assert figures["right"]["value"] == 1.0 and figures["trusted_and_wrong"] == 0
        assert figures["trusted"]["value"] == 1.0 and figures["others_trusted"]["value"] == 1.0
        assert figures["clips"] == 3 and figures["speakers"] == 3
    assert found["1-2 s"]["asked"] == 6  # 94 frames: two parts of 38


def test_a_deaf_network_is_told_by_halves_not_by_whether_it_follows() -> None:
    deaf = [stranger(0, None, seed, 60, deaf=True) for seed in range(16)]
    found = doubtful_shares(try_unknown(deaf, judge_if(True)))
    assert found["clips"] == 16 and found["halves_agree"]["value"] < 0.4
    # What fits by chance moves with the sound.
    assert found["follows_by_chance"]["value"] > found["halves_agree"]["value"]
    good = [stranger(-2, None, seed, 60) for seed in range(4)]
    assert doubtful_shares(try_unknown(good, judge_if(True)))["halves_agree"]["value"] == 1.0
    assert try_unknown([stranger(0, 0, 1), stranger(0, 0, 2)], judge_if(True)) == []


def test_nothing_is_wrong_and_trusted_where_nothing_is_trusted() -> None:
    unsure = tally(ask([stranger(4, 0, seed, 30) for seed in range(2)], judge_if(False)))
    assert unsure["trusted"]["value"] == unsure["others_trusted"]["value"] == 0
    assert unsure["right"]["value"] == 0 and unsure["trusted_and_wrong"] == 0


def test_a_listed_offset_is_the_truth() -> None:
    wrong = tally(ask([stranger(4, 0, seed) for seed in range(3)], judge_if(True)))
    assert wrong["right"]["value"] == 0 and wrong["trusted_and_wrong"] == wrong["asked"]


def test_an_answer_that_follows_but_cannot_be_is_wrong() -> None:
    clips = [stranger(9, None, seed, 60) for seed in range(3)]
    wild = [replace(clip, video=replace(clip.video, group="talkvid")) for clip in clips]
    assert tally(ask(clips, judge_if(True)))["right"]["value"] == 1.0
    found = tally(ask(wild, judge_if(True)))
    assert found["right"]["value"] == 0 and found["trusted_and_wrong"] == found["asked"]


def test_clips_weigh_alike_however_many_parts_they_have() -> None:
    one, other = stranger(0, 0, 0), stranger(0, 0, 1)
    asked = [Asked(one, "1-2 s", 0.25, 0, True, True, 0.0)] * 4
    asked += [Asked(other, "1-2 s", 1.0, 5, False, True, float("nan"))]
    found = tally(asked)
    assert found["asked"] == 5 and found["clips"] == 2 and found["trusted_and_wrong"] == 1
    assert found["right"]["value"] == 0.5 and found["trusted"]["value"] == 1.0
    assert found["others_trusted"]["value"] == 0.0  # of the one that could be asked


def speaking(folder: Path) -> tuple[Path, Path, Sequence[Video]]:
    """Synthetic heads as `prepare` leaves clips, and as shards."""
    synthesize(folder / "plain", clips=6, seed=3, size=64, seconds=3.0, workers=1)
    videos = []
    for number, clip in enumerate(sorted((folder / "plain").glob("*/audio.wav"))):
        target = folder / "clips" / clip.parent.name / "000-00"
        target.parent.mkdir(parents=True)
        clip.parent.rename(target)
        (target / "clip.json").write_text(json.dumps({"source": target.parent.name}))
        group, offset = (("grid", 0), ("talking", 0), ("talkvid", None), ("example", 3))[
            min(number // 2, 2) if number < 5 else 3
        ]
        videos.append(Video(Path(f"{target.parent.name}.mp4"), group, f"s{number}", offset))
    pack(folder / "clips", folder / "shards", PackOptions(ratios=(0, 0, 100), gray=True))
    return folder / "clips", folder / "shards", videos


def test_networks_are_measured_side_by_side(tmp_path: Path) -> None:
    clips, shards, videos = speaking(tmp_path)
    torch.manual_seed(0)
    network = Network(SyncNet("small").eval())
    found = measure(network, clips, shards, videos)
    assert measure(network, clips, shards, videos) == found
    assert found["groups"]["grid"]["lengths"][WHOLE]["clips"] == 2
    assert found["groups"]["talkvid"]["lengths"]["2-4 s"]["speakers"] == 1
    assert found["all"][WHOLE]["clips"] == 5  # the demonstration clip is for the zero alone
    assert found["example_224"]["found"] is not None and len(found["clips"]) == 6
    assert set(found["groups"]["grid"]["speech"]) == {f"k{k}" for k in (5, 7, 9, 11, 13, 15)}
    json.dumps(found, allow_nan=False)
    result = {"networks": {"old": found, "new": found}, "left_out": ["dark"], "machine": MACHINE}
    page, short = tables.readme(result), tables.readme_short(result)
    assert "| K=5 | K=7 | K=9 |" in page and "| new |" in page and "dark" in page
    assert "`old` puts whole clips at a mean" in page and "that says +3" in page
    assert short.count("\n| ") < page.count("\n| ") and "| K=5 | K=15 | right" in short


MACHINE = {"processor": "x", "cores": 2, "gpu": None, "python": "3", "versions": {"torch": "2"}}


def test_the_command_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = ["--work", str(tmp_path / "work"), "--data", str(tmp_path)]
    assert command.main([*work, "--weights", "mouth"]) == 1
    assert "is missing, and 63 more of 64" in capsys.readouterr().err
    assert command.main([*work, "--weights", "a/best.pt", "b/best.pt"]) == 2
    assert "same name" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        command.main(["--help"])
    assert left.value.code == 0
    assert "usage: python -m benchmarks.strangers " in capsys.readouterr().out
