"""keep.csv: what is written is read back, and every wrong line is named in a sentence."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.keep import (
    KEEP,
    NO_MINIMUM,
    REALIGN,
    SHIFTED,
    VERDICTS,
    KeepError,
    Row,
    in_words,
    read_keep,
    write_keep,
)

HEADER = "clip,score,offset,verdict,reason\n"
rows = st.builds(
    Row,
    verdict=st.sampled_from(VERDICTS),
    score=st.none() | st.integers(-999, 999).map(lambda n: n / 8),
    offset=st.integers(-30, 30),
    reason=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
)


@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9_-]+", fullmatch=True), rows, max_size=6))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, found: dict[str, Row]
) -> None:
    found["kept"] = Row(KEEP)
    path = tmp_path_factory.mktemp("keep") / "keep.csv"
    write_keep(path, found)
    assert read_keep(path) == found


def test_use_and_shift() -> None:
    # early by 5: what belongs to frame i was said at i - 5
    assert Row(REALIGN, 1.0, 5).audio_shift == -5
    assert Row(KEEP, 1.0, 5).audio_shift == Row(SHIFTED, 1.0, 5).audio_shift == 0
    assert [Row(verdict).used for verdict in VERDICTS] == [True, True] + 4 * [False]
    assert in_words([Row(KEEP), Row(NO_MINIMUM), Row(KEEP)]) == "2 keep, 1 no minimum"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "first line"),
        ("clip,verdict\na,keep\n", "first line"),
        (HEADER, "keeps no clip"),
        (HEADER + "a,1,0,shifted,\n", "keeps no clip"),
        (HEADER + "a,1,0,keep\n", "line 2: 4 fields"),
        (HEADER + "a,1,0,keep,\na,1,0,keep,\n", "line 3: clip 'a' is twice"),
        (HEADER + ",1,0,keep,\n", "not named"),
        (HEADER + "a,1,0,kept,\n", "verdict 'kept'"),
        (HEADER + "a,high,0,keep,\n", "score 'high'"),
        (HEADER + "a,nan,0,keep,\n", "score 'nan'"),
        (HEADER + "a,1,0.5,keep,\n", "offset '0.5'"),
        (HEADER + "a,1,4000,keep,\n", "beyond"),
        (HEADER + "a,1,,realign,\n", "realign needs an offset"),
        (HEADER + 'a,1,0,keep,"open\n', "line"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "keep.csv"
    path.write_text(text)
    with pytest.raises(KeepError, match=problem):
        read_keep(path)


def test_a_file_that_is_no_text_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeepError, match="does not exist"):
        read_keep(tmp_path / "keep.csv")
    (tmp_path / "keep.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(KeepError, match="cannot be read"):
        read_keep(tmp_path / "keep.csv")
