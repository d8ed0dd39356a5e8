"""By how much a video is mended, and when its copy is good enough."""

import pytest

from measured import track_result
from trainer.score.mend import offset_to_mend, still_off
from trainer.score.trust import SyncError


def test_only_offsets_that_can_be_trusted_are_mended() -> None:
    with pytest.raises(SyncError, match="no offset can be trusted"):
        offset_to_mend([track_result(3, doubts=("too short",))])
    with pytest.raises(SyncError, match="off by -2 to 3 frames"):
        offset_to_mend([track_result(3), track_result(-2)])
    with pytest.raises(SyncError, match="nothing was measured"):
        offset_to_mend([])
    assert (
        offset_to_mend(
            [track_result(3, 5.0), track_result(4, 8.0), track_result(9, doubts=("unsure",))]
        )
        == 4
    )
    assert still_off([track_result(1), track_result(-1)]) == ""
    assert "still off: audio is 80 ms late" in still_off([track_result(1), track_result(-2)])
    assert "no offset can be trusted" in still_off([track_result(0, doubts=("unsure",))])
    assert "could not be measured again" in still_off([])
