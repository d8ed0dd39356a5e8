"""Real speech end to end, small: what is spoilt in secret is judged by what was done to it."""

import json
from pathlib import Path

import pytest
import soundfile

from benchmarks import real_refine, real_speech, ridge, shift_recovery
from data_tools.keep import KEEP, NO_MINIMUM, REALIGN, SHIFTED, Row, write_keep
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.shards import open_shards
from data_tools.synth.clips import synthesize
from trainer.data.dataset import Dataset
from trainer.score.evaluation import EvaluationOptions
from trainer.score.intervals import summarise


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips and shards where `real_speech` leaves them, of synthetic heads."""
    folder = tmp_path_factory.mktemp("work")
    synthesize(folder / "plain", clips=30, seed=3, size=64, seconds=2.0, workers=1)
    for clip in sorted((folder / "plain").glob("*/audio.wav")):
        target = folder / "grid" / "clips" / clip.parent.name / "000-00"
        target.parent.mkdir(parents=True)
        clip.parent.rename(target)
        (target / "clip.json").write_text(json.dumps({"source": target.parent.name}))
    pack(folder / "grid" / "clips", folder / "grid" / "shards", PackOptions(gray=True))
    return folder


def test_what_was_spoilt_is_known_and_everything_else_untouched(work: Path, tmp_path: Path) -> None:
    clips, shards = work / "grid" / "clips", work / "grid" / "shards"
    secret = real_refine.spoil(clips, shards, tmp_path, seed=0)
    train = [r.source for shard in open_shards(shards, "train") for r in shard.records]
    assert len(secret) == round(0.2 * len(train)) and set(secret) <= set(train)
    for path in (tmp_path / "clips").glob("*/*/*/audio.wav"):
        source = path.parts[-3]
        before, _ = soundfile.read(clips / source / "000-00" / "audio.wav", dtype="int16")
        after, _ = soundfile.read(path, dtype="int16")
        done = secret.get(source)
        frames = len(list(path.parent.glob("frames/*.jpg")))
        assert len(after) == 640 * frames
        if done is None:
            assert frames == 50 and (after == before).all()
        elif done != "dubbed":
            early = int(done.split()[1])
            assert frames == 50 - abs(early)
            first = max(early, 0) * 640
            assert (after == before[first : first + len(after)]).all()
            original = clips / source / "000-00" / "frames" / f"frame{max(-early, 0)}.jpg"
            shown = path.parent / "frames" / "frame0.jpg"
            assert shown.read_bytes() == original.read_bytes()
        else:
            assert frames == 50 and not (after == before).all()


def test_verdicts_are_held_against_the_secret(work: Path, tmp_path: Path) -> None:
    shards = work / "grid" / "shards"
    records = [r for shard in open_shards(shards, "train") for r in shard.records]
    key = [record.key for record in records]
    secret = {
        records[0].source: "shifted +5",
        records[1].source: "dubbed",
        records[2].source: "shifted -4",
    }
    rows = dict.fromkeys(key, Row(KEEP, 1.0, 0))
    rows |= {key[0]: Row(REALIGN, 0.1, 5), key[1]: Row(NO_MINIMUM, 0.0, 7)}
    rows |= {key[2]: Row(KEEP, 0.5, 9), key[3]: Row(SHIFTED, 0.1, 3)}
    write_keep(tmp_path / "keep.csv", rows)
    found = real_refine.judge(tmp_path / "keep.csv", secret, shards)
    assert found["off_sync"] == 3 and found["rejected"] == 3
    assert found["precision"] == found["recall"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["recall_shifted"] == 0.5 and found["recall_dubbed"] == 1
    assert found["shift_found_within_one_frame"] == 0.5


def test_the_regression_hears_more_than_chance(work: Path) -> None:
    shards = work / "grid" / "shards"
    measured = ridge.measure(Dataset(shards, "train"), Dataset(shards, "train"))
    found = summarise(measured, EvaluationOptions()).as_dict()
    assert found["accuracy"]["k15"]["value"] > 0.3  # of what it was fitted to


@pytest.mark.slow
def test_refinement_runs_end_to_end(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert real_refine.main(["--work", str(work), "--quick", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["off_sync"] > 0
    assert real_refine.main(["--work", str(tmp_path), "--quick"]) == 1


def test_a_step_that_fails_ends_it(tmp_path: Path) -> None:
    assert real_speech.main(["--grid", str(tmp_path / "none"), "--work", str(tmp_path)]) == 1


def test_the_words_state_the_offset() -> None:
    assert shift_recovery.said_of("in sync") == 0
    assert shift_recovery.said_of("audio is 120 ms early; delay it by 120 ms") == 3
    assert shift_recovery.said_of("audio is 80 ms late; advance it by 80 ms") == -2
