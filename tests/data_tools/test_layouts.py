"""The trees of the field's data sets: every one gives its sources, speakers and splits."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from data_tools.errors import UsageError
from data_tools.inputs import find_videos, settle_names
from data_tools.layouts import LAYOUTS, OfficialLists
from data_tools.video_plan import PlannedVideo, ShardOptions, plan_video_shards, planned_videos

# Of each layout: path, source, speaker, the split that it has itself.
TREES: dict[str, list[tuple[str, str, str | None, str | None]]] = {
    "voxceleb2": [
        ("dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", "id00012/21Uxsk56VDQ", "id00012", None),
        ("dev/mp4/id00012/21Uxsk56VDQ/00002.mp4", "id00012/21Uxsk56VDQ", "id00012", None),
        ("dev/mp4/id00015/0fijmz4vTVU/00001.mp4", "id00015/0fijmz4vTVU", "id00015", None),
        ("dev/mp4/id00016/x_-yz/00001.mp4", "id00016/x_-yz", "id00016", None),
        ("test/mp4/id00017/01dfn2spqyE/00001.mp4", "id00017/01dfn2spqyE", "id00017", "test"),
    ],
    "lrs2": [
        ("main/6330311066473698535/00011.mp4", "6330311066473698535", None, None),
        ("pretrain/6330311066473698535/00012.mp4", "6330311066473698535", None, None),
        ("main/5535415699068794046/00001.mp4", "5535415699068794046", None, None),
    ],
    "lrs3": [
        ("trainval/0af00UcTOSc/50001.mp4", "0af00UcTOSc", None, None),
        ("pretrain/0bXXXXXXXXX/00001.mp4", "0bXXXXXXXXX", None, None),
        ("test/0Fi83BHQsMA/00002.mp4", "0Fi83BHQsMA", None, "test"),
    ],
    "hdtf": [
        ("WDA_BarackObama_000.mp4", "WDA_BarackObama_000", "WDA_BarackObama", None),
        ("WDA_BarackObama_001_3.mp4", "WDA_BarackObama_001", "WDA_BarackObama", None),
        ("cut/RD_Radio10_000.mp4", "RD_Radio10_000", "RD_Radio10", None),
        ("WRA_AdamKinzinger0_000.mp4", "WRA_AdamKinzinger0_000", "WRA_AdamKinzinger", None),
        ("WDA_BarackObama_002/part_001.mp4", "WDA_BarackObama_002", "WDA_BarackObama", None),
        ("WDA_Ann_de_Witt1_000_part_2.mp4", "WDA_Ann_de_Witt1_000", "WDA_Ann_de_Witt", None),
        ("RD_Radio_11_000/RD_Radio_11_000_1.mp4", "RD_Radio_11_000", "RD_Radio_11", None),
        ("WRA_Bob_1.mp4", "WRA_Bob_1", "WRA_Bob", None),
    ],
    "grid": [
        ("s1/bbaf2n.mpg", "s1/bbaf2n", "s1", None),
        ("s2/video/mpg_6000/bbaf2n.mpg", "s2/video/mpg_6000/bbaf2n", "s2", None),
        ("s26_lbax4n.mp4", "s26_lbax4n", "s26", None),
    ],
    "mead": [
        ("M003/video/front/angry/level_1/001.mp4", "M003/angry/level_1/001", "M003", None),
        ("M003/video/down/angry/level_1/001.mp4", "M003/angry/level_1/001", "M003", None),
        ("W009/video/front/sad/level_2/030.mp4", "W009/sad/level_2/030", "W009", None),
    ],
    "crema-d": [
        ("VideoFlash/1001_DFA_ANG_XX.flv", "1001_DFA_ANG_XX", "1001", None),
        ("VideoFlash/1002_IEO_SAD_HI.flv", "1002_IEO_SAD_HI", "1002", None),
    ],
    "talkvid": [
        ("abc-scene3_scene1.mp4", "abc", None, None),
        ("abc-scene4_scene2.mp4", "abc", None, None),
        ("19-30_1.mp4", "19-30", None, None),
    ],
    "folders": [
        ("ann/2019/part 1.mp4", "ann/2019", "ann", None),
        ("ann/talk.mov", "ann/talk", "ann", None),
        ("bob/talk.mov", "bob/talk", "bob", None),
    ],
}


def planned(
    folder: Path, options: ShardOptions, lists: OfficialLists | None = None
) -> list[PlannedVideo]:
    return planned_videos(settle_names(find_videos([folder])[0]), options, lists)


def make_tree(folder: Path, paths: list[str]) -> Path:
    for number, path in enumerate(paths):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * (number + 1))
    return folder


def test_every_layout_has_a_tree_here_and_a_name_on_the_command_line() -> None:
    assert TREES.keys() == LAYOUTS.keys()
    (names, _) = get_args(ShardOptions.__dataclass_fields__["layout"].type)
    assert get_args(names) == tuple(LAYOUTS)


@pytest.mark.parametrize("layout", TREES)
def test_a_tree_gives_sources_speakers_and_splits(layout: str, tmp_path: Path) -> None:
    rows = TREES[layout]
    folder = make_tree(tmp_path, [row[0] for row in rows])
    options = ShardOptions(layout=layout)  # type: ignore[arg-type]
    videos = planned(folder, options)
    found = {str(v.path.relative_to(folder)): (v.source, v.speaker, v.split) for v in videos}
    assert found == {path: tuple(rest) for path, *rest in rows}
    split_of = {v.name: s.split for s in plan_video_shards(videos, options, 1.0) for v in s.videos}
    for one in videos:
        assert one.split in (None, split_of[one.name])
        for other in videos:  # neither a source nor a speaker lies in two splits
            if one.source == other.source or (one.speaker and one.speaker == other.speaker):
                assert split_of[one.name] == split_of[other.name]
    if any(video.split == "test" for video in videos):  # the official test set gets nothing else
        assert {v.split for v in videos if split_of[v.name] == "test"} == {"test"}


@pytest.mark.parametrize(
    ("layout", "given", "source", "speaker"),
    [
        ("grid", "s1", "s1/bbaf2n", "s1"),
        ("grid", "s2/video", "s2/video/mpg_6000/bbaf2n", None),
        ("mead", "M003", "M003/angry/level_1/001", "M003"),
        ("voxceleb2", "dev/mp4/id00012", "id00012/21Uxsk56VDQ", "id00012"),
        ("hdtf", "WDA_BarackObama_002", "WDA_BarackObama_002", "WDA_BarackObama"),
    ],
)
def test_the_folder_of_one_speaker_says_who_it_is(
    layout: str, given: str, source: str, speaker: str | None, tmp_path: Path
) -> None:
    rows = [row[0] for row in TREES[layout] if row[0].startswith(f"{given}/")]
    folder = make_tree(tmp_path / "data", rows) / given
    options = ShardOptions(layout=layout)  # type: ignore[arg-type]
    if speaker is None:  # its folder's name tells nothing, and is not guessed
        with pytest.raises(UsageError, match="matches nothing in"):
            planned(folder, options)
        return
    first = planned(folder, options)[0]
    assert (first.source, first.speaker) == (source, speaker)
    # one's own pattern is matched below the folder, whatever that is called
    own = ShardOptions(layout=layout, speaker_pattern="(^.)")  # type: ignore[arg-type]
    assert planned(folder, own)[0].speaker == first.name[0]


def test_a_tree_of_another_shape_is_refused(tmp_path: Path) -> None:
    folder = make_tree(tmp_path, ["talk.mp4"])
    with pytest.raises(UsageError, match=r"--layout voxceleb2 \(.*00001.mp4\) matches nothing in"):
        planned(folder, ShardOptions(layout="voxceleb2"))


def test_official_lists_choose_videos_and_their_splits(tmp_path: Path) -> None:
    rows = TREES["lrs2"]
    folder = make_tree(tmp_path / "v", [row[0] for row in rows])
    (tmp_path / "train.txt").write_text("6330311066473698535/00011\nnot/here\n")
    (tmp_path / "test.txt").write_text("./5535415699068794046/00001.mp4 NF MV\n")
    lists = OfficialLists([f"train={tmp_path}/train.txt", f"test={tmp_path}/test.txt"])
    videos = planned(folder, ShardOptions(layout="lrs2"), lists)
    assert {v.name: v.split for v in videos} == {
        "main/6330311066473698535/00011": "train",
        "main/5535415699068794046/00001": "test",
    }
    assert lists.missing(v.name for v in videos) == 1
    plain = OfficialLists([f"{tmp_path}/train.txt"])
    assert [v.split for v in planned(folder, ShardOptions(layout="lrs2"), plain)] == [None]
    (tmp_path / "none.txt").write_text(f"a/b {'0.3 ' * 2000}\n")
    with pytest.raises(UsageError, match="--list names none of the videos"):
        planned(folder, ShardOptions(), OfficialLists([f"{tmp_path}/none.txt"]))
    with pytest.raises(UsageError, match="is in the lists of train and of val"):
        OfficialLists([f"train={tmp_path}/train.txt", f"val={tmp_path}/train.txt"])
    with pytest.raises(UsageError, match="cannot read the list"):
        OfficialLists([f"{tmp_path}/gone.txt"])
    with pytest.raises(UsageError, match=r"--list dev=.*: SPLIT must be one of train, val, test"):
        OfficialLists([f"dev={tmp_path}/train.txt"])
    with pytest.raises(UsageError, match=r"cannot read the list .*gone.txt"):
        OfficialLists([f"val={tmp_path}/gone.txt"])
