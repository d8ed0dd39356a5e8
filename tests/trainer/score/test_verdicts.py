"""What becomes of each clip."""

import pytest

from data_tools.keep import KEEP, NO_MINIMUM, REALIGN, SHIFTED, UNREADABLE
from embedded import scored
from trainer.score.clip_scores import ClipScore
from trainer.score.verdicts import give_verdicts


@pytest.mark.parametrize("realign", [False, True])
def test_verdicts(realign: bool) -> None:
    judged = [scored(0), scored(1), scored(9), scored(-5), scored(None)]
    judged += [
        ClipScore("short", 20, -1.0),
        ClipScore("bad", 70, fault="a frame cannot be decoded"),
    ]
    rows = give_verdicts(judged, 0.2, realign)
    moved = REALIGN if realign else SHIFTED
    assert [row.verdict for row in rows.values()] == (
        [KEEP, KEEP, moved, moved, NO_MINIMUM, KEEP, UNREADABLE]
    )
    assert rows["9-0"].offset == 9 and "360 ms early; delay" in rows["9-0"].reason
    assert rows["9-0"].audio_shift == (-9 if realign else 0)
    assert "too short to be judged" in rows["short"].reason and rows["short"].score is None
