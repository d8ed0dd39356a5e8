"""The README and docs/: every link, module, option and snippet in them is true."""

import contextlib
import importlib.util
import io
import re
import runpy
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from benchmarks.module_map import modules, purpose
from videos import canvas, head, write_video

MakeClip = Callable[..., Path]
REPOSITORY = Path(__file__).parents[1]
README = REPOSITORY / "README.md"
PAGES = [
    README,
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *(REPOSITORY / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    REPOSITORY / "trainer" / "pretrained" / "README.md",
]
PACKAGES = ("benchmarks", "data_tools", "trainer")
SCRIPTS = {
    "syncnet": "trainer.sync",
    "syncnet-train": "trainer.run",
    "syncnet-data": "data_tools",
}
ALSO = {"trainer.refine": "trainer.run"}  # hands the options that it does not know to another


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


def anchor(heading: str) -> str:
    """The anchor that a heading gets: "## Why `x`?" -> "why-x"."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def inline_code(page: Path) -> list[str]:
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


def lines_of_shell(page: Path) -> list[str]:
    """Command lines of a page: shell blocks, and code in the text that begins like one."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    return lines + inline_code(page)


def commands(page: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Module, sub-command and options of every command of ours that a page names."""
    for line in lines_of_shell(page):
        for part in re.split(r"&&|;|\|", line):
            with contextlib.suppress(ValueError):  # an apostrophe of prose
                words = shlex.split(part, comments=True)
                module = ""
                if "-m" in words[:-1]:
                    at = words.index("-m") + 1
                    module, words = words[at], words[at + 1 :]
                elif words and words[0] in SCRIPTS:
                    module, words = SCRIPTS[words[0]], words[1:]
                if module.split(".")[0] not in PACKAGES:
                    continue
                sub = ""
                if module == "data_tools" and words and words[0].isalpha():
                    sub = words[0]
                yield module, sub, [word for word in words if word.startswith("--")]


@cache
def options(module: str, sub: str) -> frozenset[str]:
    """All options that a command's --help names."""
    said = io.StringIO()
    with (
        contextlib.redirect_stdout(said),
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(action="ignore"),  # that the module was imported before
        pytest.raises(SystemExit) as left,
    ):
        patch.setattr(sys, "argv", [module, *([sub] if sub else []), "--help"])
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert not left.value.code, (module, sub)
    found = set(re.findall(r"--[a-z][\w.-]*", said.getvalue()))
    return frozenset(found | (options(ALSO[module], "") if module in ALSO else set()))


def is_runnable(module: str) -> bool:
    """Whether `python -m module` does something."""
    with contextlib.suppress(ModuleNotFoundError):
        found = importlib.util.find_spec(module)
        if found is not None and found.submodule_search_locations is not None:
            return importlib.util.find_spec(f"{module}.__main__") is not None
        if found is not None and found.origin is not None:
            return '__name__ == "__main__"' in Path(found.origin).read_text(encoding="utf-8")
    return False


def test_the_readme_is_short_and_shows_a_picture() -> None:
    text = text_of(README)
    assert len(text.splitlines()) <= 160
    assert "](docs/front.png)" in text


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", target):
            continue
        path, _, heading = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", prose(linked), re.MULTILINE)
            assert heading in map(anchor, headings), target


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, todo = set(), [README]
    while todo:
        page = todo.pop()
        seen.add(page)
        linked = re.findall(r"\]\(([^)\s#:]+\.md)(?:#[^)]*)?\)", text_of(page))
        todo += {(page.parent / target).resolve() for target in linked} - seen
    assert set(PAGES) - seen == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_modules_that_a_page_runs_exist(page: Path) -> None:
    for module in re.findall(r"-m\s+((?:benchmarks|data_tools|trainer)[\w.]*\w)", text_of(page)):
        assert is_runnable(module), module


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_that_a_page_gives_exist(page: Path) -> None:
    for module, sub, given in commands(page):
        for option in given:
            assert option.split("=")[0] in options(module, sub), (module, sub, option)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_that_a_page_mentions_exist(page: Path) -> None:
    ours = {
        "trainer.run trainer.sync trainer.evaluate trainer.refine trainer.calibrate trainer.export",
        "benchmarks.compare_loaders benchmarks.profile_steps benchmarks.growth benchmarks.report",
        "benchmarks.studies.loss benchmarks.gpu_suite benchmarks.faults benchmarks.fuzz",
    }
    known = {option for names in ours for module in names.split() for option in options(module, "")}
    for sub in ("prepare", "pack", "verify", "filter", "info", "synth"):
        known |= options("data_tools", sub)
    known |= set(get_args_parser()._option_string_actions)  # torchrun's
    for code in inline_code(page):
        if not code.startswith("--"):
            continue
        option = code.split()[0].split("=")[0]
        if option.endswith("..."):
            option = option.removesuffix("...")
            assert any(name.startswith(option) for name in known), code
        else:
            assert option in known, code


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_names_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":  # names what was as well
        return
    for code in inline_code(page):
        if re.fullmatch(rf"(?:{'|'.join(PACKAGES)}|tests|docs)/[\w./-]*", code):
            assert (REPOSITORY / code).exists(), code


def test_the_files_to_read_exist() -> None:
    """The README's table of files: a folder in code, then names of files in it."""
    named = 0
    for line in text_of(README).splitlines():
        folder = REPOSITORY
        for code in re.findall(r"`([\w/]+(?:/|\.py))`", line):
            folder = REPOSITORY / code if code.endswith("/") else folder
            assert (folder if code.endswith("/") else folder / code).exists(), line
            named += 1
    assert named > 10


def test_the_map_names_every_module() -> None:
    architecture = text_of(REPOSITORY / "docs" / "ARCHITECTURE.md")
    for path in (path for package in PACKAGES for path in modules(package)):
        assert purpose(path), f"{path} has no docstring"
        if path.name != "__init__.py":
            name = path.relative_to(REPOSITORY).as_posix()
            assert f"| `{name}` | {purpose(path)} |" in architecture, "python -m benchmarks.report"


def test_the_legend_has_every_axis() -> None:
    """Names such as frames_NRHWC end in axes; the legend explains each letter."""
    architecture = text_of(REPOSITORY / "docs" / "ARCHITECTURE.md")
    legend = set(re.findall(r"^\| `([A-Z])` \|", architecture, re.MULTILINE))
    used = set()
    for package in ("data_tools", "trainer"):
        for path in (REPOSITORY / package).rglob("*.py"):
            for axes in re.findall(r"\b[a-z]+_([A-Z]{1,6})\b", path.read_text(encoding="utf-8")):
                used |= set(axes)
    assert len(used) > 8 and used - legend == set()


@pytest.fixture
def work(tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the snippets need: talk.mp4 and clips."""
    pictures, sound = head(7, 75)
    write_video(tmp_path / "talk.mp4", canvas([pictures]), sound)
    for number in range(20):
        make_clip(tmp_path / "clips" / f"clip{number}", size=64, seed=number)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, REPOSITORY / "docs" / "library.md"], ids=name_of)
def test_snippets_run(page: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"__name__": "snippets"}
    snippets = blocks(page, "python")
    assert snippets
    for number, snippet in enumerate(snippets, 1):
        exec(compile(snippet, f"{name_of(page)}, snippet {number}", "exec"), names)
    said = capsys.readouterr().out
    assert re.search(r"^[+-]?\d+ .*(in sync|early|late).* (True|False)$", said, re.MULTILINE)
