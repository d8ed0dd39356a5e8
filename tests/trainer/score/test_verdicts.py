"""What becomes of each clip."""

import numpy as np
import pytest

from data_tools.keep import FAR, KEEP, NO_MINIMUM, REALIGN, SHIFTED, UNREADABLE, Row
from embedded import scored
from trainer.score.clip_scores import ClipScore
from trainer.score.spread import find_spread
from trainer.score.verdicts import (
    Changes,
    VerdictOptions,
    find_changes,
    find_rule,
    give_verdicts,
    reasons,
)


def answer(offset: int, clear: float, number: int = 0) -> ClipScore:
    """A clip that says so, beside a chance that is the same for all."""
    chance = number % 13 - 6, 0.05 + 0.4 * (number % 7) / 6
    return ClipScore(f"{offset}-{number}", 40, clear - 1, offset, clear, *chance)


@pytest.mark.parametrize("realign", [False, True])
def test_verdicts(realign: bool) -> None:
    judged = [scored(0), scored(1), scored(9), scored(-5), answer(3, 0.02)]
    judged += [
        ClipScore("short", 20, -1.0),
        ClipScore("bad", 70, fault="a frame cannot be decoded"),
    ]
    judged += [scored(0, seed) for seed in range(1, 30)]
    rows = give_verdicts(judged, 0.2, find_spread(judged), realign)
    # every clip is moved by its own offset, a single frame included
    expected = (
        [KEEP, REALIGN, REALIGN, REALIGN, NO_MINIMUM, NO_MINIMUM, UNREADABLE]
        if realign
        else [KEEP, KEEP, SHIFTED, SHIFTED, NO_MINIMUM, KEEP, UNREADABLE]
    )
    assert [row.verdict for row in rows.values()][:7] == expected
    assert rows["9-0"].offset == 9 and "360 ms early; delay" in rows["9-0"].reason
    assert rows["9-0"].audio_shift == (-9 if realign else 0)
    assert rows["1-0"].audio_shift == (-1 if realign else 0)
    assert "too short to " in rows["short"].reason and rows["short"].score is None
    assert all(row.reason for row in rows.values() if not row.used)
    assert sum(reasons(rows.values()).values()) == sum(not row.used for row in rows.values())


def test_an_offset_that_is_alone_is_believed_only_where_chance_is_never_so_clear() -> None:
    clips = [answer(-2 + n % 3, 0.6, n) for n in range(100)]
    clips += [answer(n % 13 - 6, 0.3, 200 + n) for n in range(60)]  # of no use
    odd = [answer(9, 0.3, 998), answer(9, 0.9, 999), answer(15, 0.9, 997), answer(-1, 0.1, 996)]
    threshold, spread = find_rule(clips + odd, VerdictOptions(realign=True))
    assert threshold.value == 0.15 and -3 <= spread.low <= -2 and 0 <= spread.high <= 1
    rows = give_verdicts(odd, threshold.value, spread, realign=True)
    assert [row.verdict for row in rows.values()] == [FAR, REALIGN, NO_MINIMUM, NO_MINIMUM]
    far, sure, edge, unclear = (row.reason for row in rows.values())
    assert "not where this set lies" in far and "360 ms early" in sure
    assert "edge of the search" in edge and "clearly better" in unclear


def test_thresholds_of_the_own_offset() -> None:
    clips = [answer(0, 0.01 * n, n) for n in range(1, 100)]
    for options, kept in (
        (VerdictOptions(realign=True), 84),
        (VerdictOptions(realign=True, threshold=0.5), 49),
        (VerdictOptions(realign=True, reject_share=0.2), 79),
    ):
        threshold, spread = find_rule(clips, options)
        rows = give_verdicts(clips, threshold.value, spread, realign=True)
        assert sum(row.used for row in rows.values()) == pytest.approx(kept, abs=1)


def test_what_changed_from_one_round_to_the_next() -> None:
    before = {
        "a": Row(KEEP, 0.5, 0),
        "b": Row(REALIGN, 0.5, -2),
        "c": Row(REALIGN, 0.5, 1),
        "d": Row(FAR, 0.5, 9),
        "e": Row(KEEP, 0.5, 1),  # not moved, whatever its offset
    }
    now = {
        "a": Row(REALIGN, 0.5, 1),
        "b": Row(REALIGN, 0.6, -2),
        "c": Row(NO_MINIMUM, 0.1, 1),
        "d": Row(KEEP, 0.5, 0),
        "e": Row(KEEP, 0.5, 0),
    }
    assert find_changes(before, now) == Changes(moved=1, taken_in=1, left_out=1)
    assert find_changes(now, now) == Changes(0, 0, 0)


def test_a_network_that_has_learnt_nothing_is_told() -> None:
    rng = np.random.default_rng(0)
    offsets, chance = rng.binomial(30, 0.5, (2, 400)) - 15
    clear = rng.uniform(0, 0.5, (2, 400))
    clips = [
        ClipScore(str(n), 40, 0.0, int(offsets[n]), clear[0, n], int(chance[n]), clear[1, n])
        for n in range(400)
    ]
    assert not find_spread(clips).tells
    known = [ClipScore(c.clip, 40, 0.4, 0, 0.5, c.chance_offset, c.chance_score) for c in clips]
    assert find_spread(known).tells
