"""Options out of dataclasses, and how every command ends."""

from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from jsonargparse.typing import ClosedUnitInterval
from msgspec import Meta

from data_tools import cli
from data_tools.clips import ClipError
from data_tools.errors import MissingPackage, UsageError, UserError

Size = cli.whole("Size", 16, 4096)


@dataclass(frozen=True)
class Settings:
    """What a test can set.

    Attributes:
        size: Side of a picture,
            100 % square.
        split_by: What stays together.
        share: A share.
        rate: A rate.
        flac: With sound.
        note: Any text.
        out: A folder.
    """

    size: Size = 64
    split_by: Literal["source", "clip"] = "source"
    share: ClosedUnitInterval = 0.5
    rate: float = 1.0
    flac: bool = False
    note: str | None = None
    out: Path | None = None


@dataclass(frozen=True)
class Limited:
    """Limits in annotations.

    Attributes:
        clips: How many; there is no default.
        size: Side of a picture.
        share: A share.
    """

    clips: Annotated[int, Meta(ge=1)]
    size: Annotated[int, Meta(ge=16, le=4096)] | None = None
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5


def read_limited(*argv: str) -> Limited:
    parser = cli.command("test", "A test.")
    parser.add_argument("folder", type=Path)
    cli.add_options(parser, Limited)
    return cli.read_options(Limited, cli.parse(parser, list(argv)))


def read(*argv: str) -> Settings:
    parser = cli.command("test", "A test.")
    cli.add_options(parser, Settings)
    return cli.read_options(Settings, cli.parse(parser, list(argv)))


def test_defaults_stand_once() -> None:
    assert read() == Settings()


def test_every_type() -> None:
    given = ["--size", "16", "--split-by=clip", "--share", "1", "--rate", "2", "--flac"]
    assert read(*given, "--note", "null", "--out", "#") == Settings(
        16, "clip", 1.0, 2.0, True, "null", Path("#")
    )


def test_names_that_are_no_utf8() -> None:
    assert read("--note", "a\udcff", "--out", "b\udcff") == Settings(
        note="a\udcff", out=Path("b\udcff")
    )


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--size", "8"], "--size must be at least 16 and at most 4096, not 8"),
        (["--size", "0"], "--size must be at least 16 and at most 4096, not 0"),
        (["--size", "x"], "--size must be a whole number, not 'x'"),
        (["--rate", "x"], "--rate must be a number, not x"),
        (["--rate", "[" * 3000], "--rate must be a number, not [[["),
        (["--share", "nan"], "--share must be at least 0 and at most 1, not nan"),
        (["--split-by", "y"], "--split-by must be one of 'source', 'clip', not y"),
        (["--spli", "clip"], "unrecognized arguments: --spli"),
        (["--size", '{"class_path": "os.system"}'], "--size"),
        (["more"], "unrecognized arguments: more"),
    ],
)
def test_wrong_options_are_one_sentence(argv: list[str], said: str) -> None:
    with pytest.raises(UsageError) as error:
        read(*argv)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_limits_in_annotations_are_read() -> None:
    limited = read_limited("x", "--clips", "3", "--size=16", "--share=1")
    assert limited == Limited(3, 16, 1.0)
    # types of jsonargparse's own could not be unpickled in another process
    assert [type(value) for value in astuple(limited)] == [int, int, float]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["x", "--clips", "0"], "--clips must be at least 1, not 0"),
        (["x", "--clips", "1", "--size=8"], "--size must be at least 16 and at most 4096, not 8"),
        (["x", "--clips", "1", "--share=nan"], "--share must be at least 0 and at most 1, not nan"),
        (["x"], "--clips must be given"),
        (["--clips", "1"], "FOLDER must be given"),
    ],
)
def test_limits_in_annotations_hold(argv: list[str], said: str) -> None:
    with pytest.raises(UsageError) as error:
        read_limited(*argv)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Limited(0), "--clips must be at least 1, not 0"),
        (Limited(1, 8), "--size must be at least 16 and at most 4096, not 8"),
        (Limited(1, share=float("nan")), "--share must be at least 0 and at most 1, not nan"),
    ],
)
def test_settings_made_in_python_are_checked_alike(settings: Limited, said: str) -> None:
    cli.check_options(Limited(1, 16))
    with pytest.raises(UsageError) as error:
        cli.check_options(settings)
    assert str(error.value) == said


def test_words_of_settings_made_in_python_are_checked_too() -> None:
    cli.check_options(Settings(split_by="clip"))
    with pytest.raises(UsageError, match="--split-by must be one of 'source', 'clip', not 'y'"):
        cli.check_options(Settings(split_by="y"))  # type: ignore[arg-type]


def test_two_names_for_the_same_limits() -> None:
    assert cli.whole("Other", 16, 4096) is Size


def test_arguments_may_stand_among_the_options() -> None:
    parser = cli.command("test", "A test.")
    cli.add_options(parser, Settings)
    assert cli.parted(parser, ["a", "--note", "n", "--flac", "b", "--size=16", "--", "--note"]) == (
        ["--note", "n", "--flac", "--size=16"],
        ["a", "b", "--note"],
    )
    assert cli.parted(parser, ["-", "--odd", "b", "--note"]) == (["--odd", "--note"], ["-", "b"])


def test_options_of_others_are_passed_on() -> None:
    parser = cli.command("test", "A test.")
    cli.add_options(parser, Settings)
    theirs = ["--config=#", "--train.lr", "-1", "--not", "word", "--siz", "3"]
    ours = ["--note", "--not", "--flac", "--size=16", "--rate", "-2"]
    mixed = [*theirs[:1], *ours[:2], *theirs[1:4], *ours[2:4], *theirs[4:], *ours[4:]]
    assert cli.known(parser, mixed) == (ours, theirs)
    assert cli.known(parser, ["--flac", "--", "--flac"]) == (["--flac"], ["--", "--flac"])
    assert cli.known(parser, ["a", "--note"]) == (["--note"], ["a"])


def test_a_path_may_have_any_name() -> None:
    parser = cli.command("test", "A test.")
    parser.add_argument("--out", type=cli.file_name)
    for name in ("#", "null", "12", "[x", "a: b", "é\udcff"):
        assert cli.parse(parser, ["--out", name]).out == Path(name)


def test_a_file_may_have_any_name_but_none() -> None:
    parser = cli.command("test", "A test.")
    parser.add_argument("--out", type=cli.file_name)
    for name in ("#", "null", "12", "a b"):
        assert cli.parse(parser, ["--out", name]).out == Path(name)
    with pytest.raises(UsageError, match="--out: a file name is empty"):
        cli.parse(parser, ["--out", ""])


def test_examples_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.parse(cli.command("test", "What\n\n    it does", "examples:\n  test x\n"), ["--help"])
    said = capsys.readouterr().out
    assert "What\n\n    it does\n" in said and "examples:\n  test x\n" in said


def test_outputs_are_no_inputs_and_can_be_written(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.touch()
    (tmp_path / "link.mp4").symlink_to(video)
    cli.check_outputs({"--csv": tmp_path / "a.csv", "--json": None}, {"a video": [video]})
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.mp4", "link.mp4"]
    cli.check_outputs({"--fix": tmp_path / "b.mkv"}, {}, videos=["--fix"])
    for outputs, said in (
        ({"--html": tmp_path / "b.MKV"}, r"b.MKV is called like a video; --html takes the name of"),
        ({"--fix": tmp_path / "link.mp4"}, "link.mp4 is a video, which is never overwritten"),
        ({"--csv": tmp_path / "a", "--json": tmp_path / "x/../a"}, "is what --csv writes"),
        ({"--csv": tmp_path / "no" / "a"}, "--csv: .* cannot be written: its folder is missing"),
        ({"--csv": tmp_path / (300 * "a")}, "--csv: .* file name too long"),
    ):
        with pytest.raises(UsageError, match=said):
            cli.check_outputs(outputs, {"a video": [video]}, videos=["--fix"])


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        read("--help")
    assert left.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Side of a picture, 100 % square (default: 64)" in said


def test_a_description_may_keep_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    parser = cli.command("test", "A test.\n\n    shards    what is read\n")
    with pytest.raises(SystemExit):
        cli.parse(parser, ["--help"])
    assert "\n    shards    what is read\n" in capsys.readouterr().out


def test_only_and_without() -> None:
    parser = cli.command("test", "A test.")
    cli.add_options(parser, Settings, only=("size", "note"), without=("note",))
    with pytest.raises(UsageError):
        cli.parse(parser, ["--note", "x"])
    given = cli.read_options(Settings, cli.parse(parser, ["--size", "99"]), note="fixed")
    assert given == Settings(size=99, note="fixed")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("said"), 2),
        (UserError("said"), 1),
        (MissingPackage("said"), 1),
        (ClipError("said", "more"), 1),
        (OSError(28, "said"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_users_mistake_is_one_sentence(
    error: BaseException, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise error

    assert cli.exit_status("prog", work, "said: stopped") == status
    said = capsys.readouterr().err
    assert said.startswith("prog: ")
    assert "said" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, TypeError, KeyError])
def test_a_bug_of_ours_shows_its_traceback(kind: type[Exception]) -> None:
    def work() -> Any:
        raise kind("ours")

    with pytest.raises(kind):
        cli.exit_status("prog", work)


@pytest.mark.parametrize(("result", "status"), [(None, 0), (0, 0), (1, 1)])
def test_what_work_returns_is_the_status(result: int | None, status: int) -> None:
    assert cli.exit_status("prog", lambda: result) == status
