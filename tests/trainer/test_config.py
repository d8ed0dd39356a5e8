"""Settings from files and the command line: what they mean, and one sentence for all others."""

import os
import random
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import hostile_weights as hostile
from runs import REPOSITORY
from trainer import refine
from trainer.config import check
from trainer.config.checks import from_dict
from trainer.config.command import parse, save_config
from trainer.config.settings import Config, Data, Loss, Train
from trainer.run import main

DATA = ("--data.shards", "somewhere")


def bomb(levels: int = 10) -> str:
    """A list of lists, 9^levels words when unfolded."""
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    names = "abcdefghijklmnop"[:levels]
    for one, other in pairwise(names):
        lines.append(f"{other}: &{other} [{','.join([f'*{one}'] * 9)}]")
    return "\n".join([*lines, f"train: *{names[-1]}"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (bomb(), "line 1: aliases and anchors are not for settings"),
        ("train: {lr: &x 1e-3}", "aliases and anchors"),
        ("train:\n  lr: 1\n  epochs: 2\n  lr: 3", "train.lr is given twice, in lines 2 and 4"),
        (
            "train: {lr: 1}\ndata: {ready: 2}\ntrain: {lr: 3}",
            "train is given twice, in lines 1 and 3",
        ),
        ("train.lr: 1\ntrain: {lr: 3}", "train.lr is given twice, in lines 1 and 2"),
        ("train: {'lr': 1, \"lr\": 2}", "train.lr is given twice"),
        ("train: {lr: [1, 2]}", "nested deeper"),
        ("[" * 100_000, "nested deeper"),
        ("{a: " * 100_000, "nested deeper"),
        ("train: !!python/object/apply:os.mkdir [owned]", "tags are not for settings"),
        ("train: {lr: !!float 1}", "tags are not for settings"),
        ("train: {class_path: imported.X}", "class_path, which is no setting"),
        ("train.class_path: imported.X", "class_path, which is no setting"),
        ("train: imported.X", "train must have settings below it"),
        ("class_path: imported.X", "class_path"),
        ("config: other.yaml", "cannot name another"),
        ("train:", "train must have settings below it"),
        ("train: 5", "train must have settings below it"),
        (
            "train: {lrr: 5}",
            "train has lrr, which is no setting; there are accumulate, average, batch_size",
        ),
        ("trainn: {lr: 5}", "trainn"),
        ("[train]", "sets nothing"),
        ("", "sets nothing"),
        ("# nothing", "sets nothing"),
        ("train: {lr: fast}", "train.lr: expected float, got str"),
        ("train: {epochs: 1:30}", "train.epochs: expected int, got str"),
        ("train: {epochs: 010}", "train.epochs: expected int, got str"),
        ("train: {epochs: 1.5}", "train.epochs"),
        (f"train: {{epochs: {'9' * 5000}}}", "a value of over 4096 characters"),
        (f"train: {{epochs: {'9' * 4000}}}", "train.epochs must be at most 1000000000"),
        (f"train: {{lr: {'9' * 4000}}}", "train.lr: number out of range"),
        ("train: {lr: 1e400}", "train.lr must be positive, not inf"),
        ("train: {lr: .nan}", "train.lr must be positive, not nan"),
        ("train: {epochs: yes}", "train.epochs: expected int, got bool"),
        ("data: {clips: no}", "data.clips: expected str | null, got bool"),
        ("data: {clips: 5}", "data.clips: expected str | null, got int"),
        ('data: {clips: "a\\0b"}', "data.clips is no name"),
        ("model: {name: huge}", "huge"),
        ("train: {lr: 1}\n--- \ndata: {ready: 2}", "expected a single document"),
        ("train: {lr: 1", "expected"),
        ("train:\n\tlr: 1", "cannot start any token"),
        ("\0", "characters are not allowed"),
        ("? [a]\n: 1", "must be text"),
        ("5: {lr: 1}", "5"),
        ("x: 1\n" * 300_000, "larger than 1 MB"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_bad_file_of_settings_is_one_sentence(
    text: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "imported.py").write_text("import os; os.mkdir('owned')")
    (tmp_path / "bad.yaml").write_text(text)
    began = time.monotonic()
    with hostile.bounded():
        assert main(["--config", "bad.yaml", *DATA]) == 2
    assert time.monotonic() - began < 5
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and len(said) < 1500, said
    assert not (tmp_path / "owned").exists()


def test_what_is_no_file_of_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "latin").write_bytes("data: {clips: é}".encode("latin-1"))
    (tmp_path / "wide").write_bytes("train: {lr: 1}".encode("utf-16"))
    for name, words in (
        ("pipe", "no plain file"),
        ("loop", "cannot be read"),
        ("latin", "is no UTF-8 text (byte 14)"),
        ("wide", "is no UTF-8 text (byte 0)"),
        (".", "is a folder"),
        ("missing.yaml", "does not exist"),
    ):
        for option in ("--config", "--train"):
            assert main([option, str(tmp_path / name), *DATA]) == 2
            said = capsys.readouterr().err
            assert words in said and name in said and said.count("\n") == 1, said
    assert main(["--config", "/dev/zero", *DATA]) == 2
    assert "no plain file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--train.lr", "["], "--train.lr: expected float, got str"),
        (["--train.lr", "[" * 4000], "--train.lr: expected float, got str"),
        (["--train.lr", "[" * 100_000], "over 4096 characters"),
        (["--train.lr", "9" * 400], "--train.lr: number out of range"),
        (["--train.epochs", "9" * 400], "train.epochs must be at most"),
        (["--train.epochs", "1:30"], "--train.epochs: expected int, got str 1:30"),
        (["--data.min_shift", bomb()], "--data.min_shift: expected int | null"),
        (["--overfit", "{a: &a [1], b: *a}"], "--overfit: expected int"),
        (["--train", "imported.X"], "--train: imported.X does not exist"),
        (["--train", "{class_path: imported.X}"], "class_path, which is no setting"),
        (["--train={lr: 1, lr: 2}"], "--train: lr is given twice, in lines 1 and 1"),
        (["--train", "{lr: {a: {}}}"], "nested deeper"),
        (["--train", "5"], "--train: 5 does not exist"),
        (["--data.shards", "x" * 5000], "over 4096 characters"),
        (["--data.decoder", "x"], "--data.decoder must be one of auto, dali, turbo, not x (see"),
        (["--guard=no].b"], "--guard must be one of warn, stop, off, not no].b (see"),
        (["--train", "{precision: x}"], "--train.precision must be one of auto, fp32, bf16, fp16"),
        (["--train.epoch", "5"], "unrecognized arguments: --train.epoch"),
    ],
    ids=str,
)
def test_a_bad_word_is_one_sentence(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with hostile.bounded():
        assert main([*DATA, *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and len(said) < 1500, said
    assert refine.main([*DATA, "--out", str(tmp_path / "refined"), *arguments]) == 2
    assert (
        capsys.readouterr().err.split(":", 1)[1].split("(see")[0]
        == (said.split(":", 1)[1].split("(see")[0])
    )


def test_settings_by_file_by_text_and_by_word(tmp_path: Path) -> None:
    whole, part = tmp_path / "all: 1.yaml", tmp_path / "train.yaml"
    whole.write_text(
        "\ufefftrain:\n  lr: 1e-4  # YAML 1.1 takes it for text\n  epochs: 1_000\n"
        "augment: {flip: yes, gain: .5}\ndata: {clips: 12:30, manifest: 2026-11-25}\nguard: stop\n",
        encoding="utf-8",
    )
    part.write_text("lr: 0.5\nepochs: 0x10\n")
    config, options = parse(["--config", str(whole), "--train.seed", "3"])
    assert (config.train.lr, config.train.epochs, config.train.seed) == (1e-4, 1000, 3)
    assert config.augment.flip and config.augment.gain == 0.5 and options.guard == "stop"
    assert (config.data.clips, config.data.manifest) == ("12:30", "2026-11-25")
    # what comes later on the command line holds
    config, _ = parse([f"--config={whole}", "--train", str(part), "--train.lr=0.25"])
    assert (config.train.lr, config.train.epochs, config.augment.flip) == (0.25, 16, True)
    config, _ = parse(["--train.lr", "0.25", "--train", str(part), *DATA])
    assert config.train.lr == 0.5
    config, _ = parse(["--data", "{shards: s, ready: 3}", "--config", "{train.lr: 2}"])
    assert (config.data.shards, config.data.ready, config.train.lr) == ("s", 3, 2.0)
    # names are names
    for name in ("*a", "&a", "12:30", "talk: part 1", "[x", "{a}", "- b", "010", "!x", "é\udcff"):
        config, _ = parse([f"--data.clips={name}", f"--data.manifest={name}"])
        assert config.data.clips == config.data.manifest == name


def test_several_sets_by_words_by_file_and_in_a_checkpoint(tmp_path: Path) -> None:
    expected = ("a b", "[c", "05")
    words = ["--data.shards", *expected, "--data.weights", "1", "2", "0.5", "--train.lr", "2"]
    by_words, _ = parse([*words, "--data.manifest", "none", "k.csv", "none"])
    (tmp_path / "mix.yaml").write_text(
        "data:\n  shards: ['a b', '[c', '05']\n  weights: [1, 2, .5]\n"
        "  manifest:\n  - none\n  - k.csv\n  - none\ntrain.lr: 2\n"
    )
    by_file, _ = parse(["--config", str(tmp_path / "mix.yaml")])
    assert by_words == by_file
    data = by_words.data
    assert (data.shards, data.weights, data.shares) == (expected, (1.0, 2.0, 0.5), (2, 4, 1))
    assert data.folders == tuple(map(Path, expected))
    assert data.manifests == (None, Path("k.csv"), None)
    save_config(by_words, tmp_path / "saved.yaml")
    assert parse(["--config", str(tmp_path / "saved.yaml")])[0] == by_words
    assert from_dict(by_words.as_dict()) == by_words
    by_section, _ = parse(["--data", "{shards: [a, b]}", "--data.weights", "3", "1"])
    assert (by_section.data.shards, by_section.data.weights) == (("a", "b"), (3.0, 1.0))


def test_one_set_is_said_as_before(tmp_path: Path) -> None:
    for name in ("shards", "[a]", "none", "- b"):
        config, _ = parse(["--data.shards", name, "--data.manifest", name])
        assert config.data.shards == config.data.manifest == name
        assert config.data.folders == config.data.manifests == (Path(name),)
    assert parse(["--config", "{data: {shards: [a]}}"])[0].data.shards == "a"
    saved = Config(data=Data(shards="a")).as_dict()
    del saved["data"]["weights"]
    assert from_dict(saved).data.folders == (Path("a"),)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data.weights", "1", "2"], "data.weights has 2 value(s) for 1 set(s)"),
        (["--data.shards", "b", "c", "--data.weights", "1"], "1 value(s) for 2 set(s)"),
        (["--data.shards", "b", "c", "--data.weights", "1", "0"], "must be positive numbers"),
        (["--data.shards", "b", "c", "--data.weights", "1", "-2"], "must be positive numbers"),
        (["--data.shards", "b", "c", "--data.weights", "1", ".inf"], "must be positive numbers"),
        (["--data.shards", "b", "c", "--data.weights", "1", "x"], "--data.weights: expected float"),
        (
            ["--data.shards", "b", "c", "--data.manifest", "k"],
            "data.manifest names 1 file(s) for 2",
        ),
        (["--data.shards", "b", "c", "--data.clips", "d"], "pack the clips with"),
        (["--data.shards", "b", ""], "data.shards is empty"),
        (["--data.shards", "b", "c\udcff"], "is no UTF-8"),
        (["--data.shards", *("x" * 101)], "over 100; pack some together"),
        (["--config", "{data: {shards: []}}"], "data.shards is empty"),
        (["--config", "{data: {shards: [a, 5]}}"], "data.shards[1]: expected str, got int"),
        (["--config", "{data: {shards: [[a]]}}"], "nested deeper"),
        (["--config", "{data: {shards: [a], clips: [b]}}"], "nested deeper"),
        (["--config", "{data: {shards: {a: b}}}"], "nested deeper"),
        (["--config", "{data: {weights: 1}}"], "data.weights: expected array | null, got int"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sets_weights_and_manifests_that_do_not_fit_are_one_sentence(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*DATA, "--run.dir", str(tmp_path / "run"), *words]) == 2
    heard = capsys.readouterr().err
    assert said in heard and heard.count("\n") == 1 and len(heard) < 1000, heard


@hypothesis_settings(max_examples=25, deadline=None, derandomize=True)
@example("\x85\u2028 \ufeff", 1e-5, 0)  # which YAML takes for ends of lines
@example("é: #'\"\\😀", 1e300, 1)
@example("#", 1.0, 0)  # no comment
@given(
    st.text(min_size=1, max_size=30).filter(lambda name: "\0" not in name),
    st.floats(1e-300, 1e300),
    st.integers(0, 2**63 - 1),
)
def test_saved_settings_are_read_back(name: str, lr: float, seed: int) -> None:
    config = replace(
        Config(),
        data=Data(shards="s", clips=name, min_shift=seed),
        train=Train(lr=lr, seed=seed),
        loss=Loss(margin=lr),
    )
    path = hostile.file_of(b"", ".yaml")
    save_config(config, path)
    read, _ = parse(["--config", str(path)])
    assert read == config


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"train": {"batch_size": 10**30}}, "train.batch_size must be at most 1000000"),
        ({"train": {"batch_size": 900_000}}, "frames a step"),
        ({"train": {"epochs": 10**30}}, "train.epochs"),
        ({"train": {"warmup_steps": 10**30}}, "train.warmup_steps"),
        ({"train": {"val_every": 10**30}}, "train.val_every"),
        ({"train": {"average": float("nan")}}, "train.average"),
        ({"data": {"ready": 10**6}}, "data.ready must be at most 1000"),
        ({"data": {"threads": 10**6}}, "data.threads"),
        ({"data": {"val_runs": 10**9}}, "data.val_runs"),
        ({"data": {"curriculum": 10**30}}, "data.curriculum"),
        ({"run": {"keep": 10**30}}, "run.keep"),
        ({"run": {"save_minutes": float("inf")}}, "run.save_minutes"),
        ({"loss": {"margin": float("nan")}}, "loss.margin"),
        ({"loss": {"margin": float("inf")}}, "loss.margin"),
        ({"augment": {"zoom": float("nan")}}, "augment.zoom"),
        ({"augment": {"noise": 1e9}}, "augment.noise"),
    ],
    ids=str,
)
def test_no_setting_asks_for_the_boundless(changed: dict[str, Any], words: str) -> None:
    whole = Config().as_dict()
    with pytest.raises(ValueError, match=words) as error:
        from_dict({name: table | changed.get(name, {}) for name, table in whole.items()})
    assert len(str(error.value)) < 300
    check(Config())


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (5, "no table"),
        ({}, "no section data"),
        ({"train": 5}, "no section train"),
        ({"new": {}}, "config.new is no section"),
        ({"data": {}}, "config has no data.windows_per_clip"),
        ({"data": Config().as_dict()["data"] | {"shards": 5}}, "config.data.shards: expected str"),
        ({"data": Config().as_dict()["data"] | {"clips": "x" * 10**6}}, "data.clips is no name"),
        ({"train": Config().as_dict()["train"] | {"lr": 10**400}}, "config.train.lr: number out"),
        ({"train": Config().as_dict()["train"] | {"lr": "1"}}, "config.train.lr: expected float"),
        ({"train": Config().as_dict()["train"] | {"x": 1}}, "config.train has x"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_in_a_checkpoint_are_checked(saved: Any, words: str) -> None:
    if isinstance(saved, dict) and saved:
        saved = Config().as_dict() | saved
    with pytest.raises(ValueError, match=words):
        from_dict(saved)


def test_settings_of_an_earlier_version_are_filled_up() -> None:
    saved = Config().as_dict()
    del saved["train"]["average"], saved["data"]["skip_quiet"]
    assert from_dict(saved) == Config()


@hypothesis_settings(max_examples=450, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_settings_crash_or_take_room(rng: random.Random) -> None:
    hostile.check_settings(hostile.mutated_settings(rng))


@hypothesis_settings(max_examples=600, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_settings_in_a_checkpoint_crash(rng: random.Random) -> None:
    hostile.check_config(hostile.mutated_config(rng))


def test_a_packaged_file_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config, _ = parse(["--config", "seed.yaml", *DATA])
    assert config == parse(["--config", str(REPOSITORY / "trainer/configs/seed.yaml"), *DATA])[0]
    assert config.model.name == "syncnet"
    # a file here comes first, and a name with a folder is a path
    Path("seed.yaml").write_text("model: {name: paper}")
    assert parse(["--config=seed.yaml", *DATA])[0].model.name == "paper"
    for name in ("./grid.yaml", "nothing.yaml"):
        assert main(["--config", name, *DATA]) == 2
        said = capsys.readouterr().err
        assert f"{name} does not exist" in said and said.count("\n") == 1
    assert "does not exist in this folder" in said
    assert "among the files of the package: grid.yaml, grid_mouths.yaml, seed.yaml" in said
    # only --config takes names of the package
    assert main(["--train", "grid.yaml", *DATA]) == 2


@pytest.mark.parametrize("name", ["data.shards", "data.clips", "data.manifest", "run.dir"])
def test_a_name_that_is_empty_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--{name}="]) == 2
    said = capsys.readouterr().err
    assert f"{name} is empty" in said and said.count("\n") == 1


def test_a_file_is_no_folder_for_a_run(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("")
    assert main(["--data.shards", str(shards_folder), "--run.dir", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "is a file, not a folder" in said and said.count("\n") == 1
    assert main(["--data.shards", str(shards_folder), "--run.dir", "/proc/x"]) == 2
    assert "run.dir /proc/x cannot be made or written to: No such" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "named"), [("nan", "nan"), ("-inf", "-inf"), ("\ninf", r"'\ninf'")]
)
def test_a_word_for_no_number_is_a_plain_sentence(
    text: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data.shards", "s", f"--train.lr={text}"]) == 2
    said = capsys.readouterr().err
    assert said == f"trainer.run: --train.lr must be a finite number, not {named}\n"


def test_what_is_no_utf8_or_commands_a_terminal_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data.shards", "s", "--train.lr", os.fsdecode(b"\xff")]) == 2
    assert "--train.lr: text that is no Unicode" in capsys.readouterr().err
    file = tmp_path / "odd.yaml"
    file.write_text('data:\n  decoder: "\\e[2J"\n')
    assert main(["--data.shards", "s", "--config", str(file)]) == 2
    said = capsys.readouterr().err
    assert "--data.decoder must be one of" in said and "\x1b" not in said
