"""Who speaks, told by a name."""

import pytest

from data_tools.errors import UsageError
from trainer.score.speakers import speaker_finder


@pytest.mark.parametrize(
    ("pattern", "name", "speaker"),
    [
        (None, "a/b", "a/b"),
        ("id[0-9]+", "test/id017/x/00001", "id017"),
        ("main/([0-9]+)/", "set/main/63/00011", "63"),
        ("id[0-9]+", "nobody", "nobody"),
        ("a|(b)", "a", "a"),
    ],
)
def test_the_speaker_is_what_is_found(pattern: str | None, name: str, speaker: str) -> None:
    assert speaker_finder(pattern)(name) == speaker


@pytest.mark.parametrize(("pattern", "said"), [("(", "no regular"), ("(a)(b)", "one group")])
def test_a_wrong_pattern_is_one_sentence(pattern: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        speaker_finder(pattern)
