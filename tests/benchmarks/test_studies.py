"""Every study runs, small, writes what it draws and tells; no accuracy is asserted of these."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, result
from benchmarks.result import RESULTS
from benchmarks.studies import (
    augmentation,
    loss,
    margin,
    min_shift,
    offsets,
    order,
    pairing,
    refinement,
    study,
    training,
    unseen,
    windows_per_run,
)
from data_tools.keep import KEEP, NO_MINIMUM, REALIGN, SHIFTED, Row, read_keep, write_keep
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.synth.clips import synthesize
from trainer.config.checks import check
from trainer.config.settings import Config
from trainer.data.augment import Augment
from trainer.data.dataset import Dataset
from trainer.score import evaluation

MODULES = [
    augmentation, loss, margin, min_shift, order, pairing, refinement, unseen, windows_per_run,
]  # fmt: skip


class OncePerKind:
    """`learn` and `accuracy` for the studies: trainings of one kind are done once.

    Studies differ by how much of something they train with, and every amount is one of the
    trainer's own tests. What takes another way through the code is trained here for real: losses,
    pairings, models, augmentation, sounds of others. The rest is given the first one's weights.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cost: dict[str, float] = {}
        self._accuracy: dict[tuple[Any, ...], dict[str, float]] = {}
        self._learn, self._measure = training.learn, training.accuracy

    @property
    def kinds(self) -> int:
        """How many trainings were done."""
        return len(self._cost)

    def learn(self, config: Config) -> float:
        check(config)
        data, loss = config.data, config.loss
        ways = (loss.name, data.pairing, config.model.name, loss.others > 0)
        more = (config.augment != Augment(), data.windows_per_run > 1, data.order)
        kind = repr((ways, more, data.shards, config.train.epochs, config.train.batch_size))
        run = Path(config.run.dir)
        if kind not in self._cost:
            self._cost[kind] = self._learn(config)
            shutil.copytree(run, self._folder / str(hash(kind)))
        else:
            shutil.copytree(self._folder / str(hash(kind)), run)
        return self._cost[kind]

    def accuracy(
        self, weights: Path, *unseen: Path, offsets: tuple[Path | None, ...] = ()
    ) -> dict[str, float]:
        key = weights.read_bytes(), unseen, offsets
        if key not in self._accuracy:
            self._accuracy[key] = self._measure(weights, *unseen, offsets=offsets)
        return self._accuracy[key]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> OncePerKind:
    return OncePerKind(tmp_path_factory.mktemp("kinds"))


@pytest.fixture
def once_per_kind(kept: OncePerKind, monkeypatch: pytest.MonkeyPatch) -> OncePerKind:
    monkeypatch.setattr(training, "learn", kept.learn)
    monkeypatch.setattr(training, "accuracy", kept.accuracy)
    return kept


@pytest.mark.parametrize("module", MODULES)
def test_a_quick_run_is_written_drawn_and_told(
    module: Any,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    once_per_kind: OncePerKind,
) -> None:
    if module is windows_per_run:  # three trainings of fourteen show as much
        monkeypatch.setattr(module, "PAIRINGS", ("paired",))
        monkeypatch.setattr(module, "WINDOWS", (1, 5))
        names = ("paired, 1", "paired, 5")
        monkeypatch.setattr(module, "TRIALS", {name: module.TRIALS[name] for name in names})
    file = tmp_path / "x.json"
    assert study.main(module.STUDY, ["--quick", "--cache", str(cache), "--json", str(file)]) == 0
    told = capsys.readouterr().out
    written = json.loads(file.read_text())
    if module is not refinement:
        expected = len(module.TRIALS) + (module is windows_per_run)
        assert len(written["trials"]) == expected and told.count("seed 0: K=5") == expected
    if module is loss:
        assert once_per_kind.kinds >= len(module.TRIALS)
    command = f"python -m benchmarks.studies.{module.STUDY.name} --quick"
    assert written["quick"] and written["command"] == command
    assert module.STUDY.told(written) in told and "K=5" in told
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_a_result_is_drawn_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.json"
    shutil.copy(RESULTS / "study_margin.json", file)
    assert study.main(margin.STUDY, ["--from", str(file)]) == 0
    assert "Which margin?" in capsys.readouterr().out
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("once_per_kind")
def test_a_study_trains_on_shards_made_elsewhere(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthesize(tmp_path / "clips", 16, 5, size=64, seconds=2.0, workers=1)
    shards, file = tmp_path / "shards", tmp_path / "x.json"
    pack(tmp_path / "clips", shards, PackOptions(gray=True, ratios=(60, 10, 30)))
    args = ["--quick", "--cache", str(cache), "--json", str(file), "--shards", str(shards)]
    assert study.main(margin.STUDY, args) == 0
    written = json.loads(file.read_text())
    assert written["sizes"]["clips"] == 8
    assert written["sizes"]["unseen"] == len(Dataset(shards, "test"))
    assert f"{len(Dataset(shards, 'test'))} unseen ones" in capsys.readouterr().out
    assert "clips of real speech" in margin.STUDY.told(written)
    keep = read_keep(training.some_clips(shards, 5, tmp_path / "keep.csv"))
    assert len(keep) == 5 and all(row.used for row in keep.values())
    assert study.main(refinement.STUDY, args) == 2
    assert "not known; see real_refine" in capsys.readouterr().err


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Shards by name: own and more to train on, strangers to measure on."""
    folder = tmp_path_factory.mktemp("sets")
    kinds = {"own": (12, (90, 0, 10)), "more": (6, (100, 0, 0)), "strangers": (4, (0, 0, 100))}
    for seed, (name, (clips, ratios)) in enumerate(kinds.items()):
        synthesize(folder / name / "clips", clips, seed, size=64, seconds=2.0, workers=1)
        options = PackOptions(gray=True, ratios=ratios)
        pack(folder / name / "clips", folder / name / "shards", options)
    return {name: folder / name / "shards" for name in kinds}


def test_a_study_heeds_manifests_mixes_sets_and_measures_strangers_by_their_offsets(
    sets: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shards, strangers = sets["own"], sets["strangers"]
    keys = list(training.usable_clips(shards, None))
    rows = {key: Row(REALIGN, 0.5, 2) for key in keys[:8]} | {keys[8]: Row(SHIFTED, 0.1, 9)}
    manifest = tmp_path / "keep.csv"
    write_keep(manifest, rows)
    some = read_keep(training.some_clips(shards, 3, tmp_path / "some.csv", manifest))
    assert len(some) == 3 and {row.audio_shift for row in some.values()} == {-2}
    more = ["--unseen", str(strangers), "--manifest", str(manifest)]
    assert study.main(margin.STUDY, ["--quick", *more]) == 2
    assert "need --shards" in capsys.readouterr().err

    unseen = Dataset(strangers, "test").keys
    keep = tmp_path / "strangers.csv"
    rows_of = (Row(REALIGN, 0.5, -3), Row(KEEP, 0.5, 1), Row(NO_MINIMUM, 0.1, 7))
    write_keep(keep, dict(zip(unseen, rows_of, strict=False)))
    drawn, asked = [], []
    learn = training.learn

    def watch(config: Config) -> float:
        check(config)
        clips = [len(read_keep(path)) for path in config.data.manifests if path]
        drawn.append((config.data.folders, clips, config.data.weights))
        return learn(config)

    def evaluate(*args: Any, own: Any, **more: Any) -> Any:
        found = evaluation.evaluate(*args, own=own, **more)
        asked.append({clip.record.key: clip.own for clip in found[0]})
        return found

    monkeypatch.setattr(training, "learn", watch)
    monkeypatch.setattr(training, "evaluate", evaluate)
    trial = training.Trial("infonce", "multiway", others=0.1, heads=0.25, more=0.5)
    source = training.Source(
        tmp_path, shards, (strangers, strangers), manifest, (keep, None), sets["more"]
    )
    found = training.compare({"one": trial}, margin.STUDY.sizes.quick, source, print)
    heads = training.heads(tmp_path, 2, training.MIXED_SEED, "train") / "shards"
    assert drawn == [((shards, sets["more"], heads), [2, 4, 2], (0.25, 0.5, 0.25))]
    # of the clips that are not used no offset is known
    assert asked == [{unseen[0]: -3, unseen[1]: 0}, dict.fromkeys(unseen, 0)]
    assert found["sizes"]["clips"] == 8 and found["sizes"]["unseen"] == 6
    assert 0 <= found["trials"]["one"][0]["curve"][-1]["k5"] <= 1


def test_offsets_of_strangers_that_fit_nothing_are_refused_before_any_training(
    sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, strangers = str(sets["own"]), str(sets["strangers"])
    files = {
        "far": "clip,score,offset,verdict,reason\nx,0.5,40,realign,\n",
        "elsewhere": "clip,offset_frames\nx,4\n",
        "neither": "clip,frames\nx,4\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    tried = {
        ("none", "none"): "has 2 value(s) for 1 set(s)",
        (str(tmp_path / "far"),): "x is off by more than 15 frames",
        (str(tmp_path / "elsewhere"),): "lists no clip of the test split",
        (str(tmp_path / "neither"),): "has no column offset_frames",
        (str(tmp_path / "missing"),): "cannot be read",
    }
    assert offsets.own_offsets(tmp_path / "elsewhere") == {"x": 4}
    args = ["--quick", "--cache", str(tmp_path), "--json", str(tmp_path / "x.json")]
    args += ["--shards", own, "--unseen", strangers]
    for number, (given, words) in enumerate(tried.items()):
        assert study.main(unseen.STUDY, [*args, "--unseen-offsets", *given]) == (1 if number else 2)
        said = capsys.readouterr()
        assert words in said.err and said.err.count("\n") == 1 and "K=5" not in said.out


def test_other_speakers_that_nothing_trains_on_or_that_are_few_are_refused(
    sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--quick", "--cache", str(tmp_path), "--shards", str(sets["own"])]
    args += ["--json", str(tmp_path / "x.json")]
    few = tmp_path / "keep.csv"
    write_keep(few, {Dataset(sets["more"], "train").keys[0]: Row(KEEP)})
    more = ["--more", str(sets["more"])]
    assert study.main(margin.STUDY, [*args, *more]) == 2
    assert study.main(unseen.STUDY, [*args, *more, "--more-manifest", str(few)]) == 1
    assert study.main(unseen.STUDY, [*args, "--more-manifest", str(few)]) == 2
    error = capsys.readouterr().err
    assert "no training of this study mixes other shards in" in error
    assert "--more has 1 usable training clips, not 4 of 8" in error
    assert "--more-manifest is of --more" in error and error.count("\n") == 3


def test_where_files_lie_is_no_part_of_the_command_that_is_kept() -> None:
    words = ["--quick", "--unseen", "/a", "/b", "--unseen-offsets", "none", "c.csv", "--seeds", "2"]
    words += ["--shards=/d", "--more", "e"]
    assert result.told(words) == "--quick --seeds 2"


def test_trainings_of_a_study_decode_and_step_alike() -> None:
    trials = {
        **loss.TRIALS,
        **pairing.TRIALS,
        **min_shift.TRIALS,
        **augmentation.TRIALS,
        **unseen.TRIALS,
    }
    for trial in trials.values():
        config = training.settings(trial, loss.STUDY.sizes, 0, Path("shards"), Path("run"))
        frames = config.data.sample_frames
        assert config.train.batch_size * frames == loss.STUDY.sizes.step_frames
        assert config.data.windows_per_clip * frames == training.CLIP_FRAMES


def test_what_was_rejected_is_compared_with_the_truth() -> None:
    rows = {
        "a": Row(KEEP, 0.5, 0),
        "b": Row(KEEP, 0.1, 0),  # dubbed, and missed
        "c": Row(SHIFTED, -0.2, 5),
        "d": Row(SHIFTED, -0.2, 9),  # the offset found is not its own
        "e": Row(NO_MINIMUM, 0.0, -3),  # nothing is wrong with it
        "f": Row(NO_MINIMUM, 0.0, -3),
    }
    kinds = {"a": ("in_sync", "0"), "b": ("dubbed", ""), "c": ("shifted", "6")}
    kinds |= {"d": ("shifted", "-9"), "e": ("in_sync", "0"), "f": ("dubbed", "")}
    kinds["elsewhere"] = ("dubbed", "")  # in another split
    truth = {clip: {"kind": kind, "offset_frames": at} for clip, (kind, at) in kinds.items()}
    found = refinement.compare_with_truth(rows, truth)
    assert found["precision"] == 3 / 4 and found["recall"] == 3 / 4
    assert found["clips"] == {"in_sync": 2, "dubbed": 2, "shifted": 2}
    assert found["rejected"] == {"in_sync": 1, "dubbed": 1, "shifted": 2}
    assert found["located"] == 1 / 2
    assert [sum(found["scores"][kind]) for kind in refinement.KINDS] == [2, 2, 2]
    none = refinement.compare_with_truth({"a": rows["a"]}, truth)
    assert none["precision"] is None and none["recall"] is None and none["located"] is None


def test_wrong_settings_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study.main(loss.STUDY, ["--seeds", "0"]) == 2
    (tmp_path / "x.json").write_text('{"trials": []}')
    assert study.main(loss.STUDY, ["--from", str(tmp_path / "x.json")]) == 2
    error = capsys.readouterr().err
    assert "--seeds must be at least 1" in error and "is no result of studies.loss" in error
    assert error.count("\n") == 2


def test_the_readme_can_tell_every_committed_study() -> None:
    told = report.studies()
    measured = [m for m in MODULES if (RESULTS / f"study_{m.STUDY.name}.json").exists()]
    assert measured and told.count("**") == 2 * len(measured)
    assert ("not measured in full" in told) == (len(measured) < len(MODULES))
