"""The layout of the code (docs/ARCHITECTURE.md): sizes, and which way imports point."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each may import those after it.
PACKAGES = ("benchmarks", "trainer", "data_tools")
COMMANDS = ("run", "sync", "evaluate", "refine", "calibrate", "export")
MOST_LINES, MOST_COMMAND_LINES, MOST_FUNCTION_LINES = 450, 260, 60


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(file): file for name in PACKAGES for file in sorted((ROOT / name).rglob("*.py"))
}


def is_command(module: str) -> bool:
    package, *rest = module.split(".")
    if package == "trainer":
        return len(rest) == 1 and rest[0] in COMMANDS
    return package == "data_tools" and rest[:1] in (["commands"], ["__main__"])


def absolute(module: str, node: ast.ImportFrom) -> str:
    """What `from ... import` in `module` names, in full: it may count dots from where it stands."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    if FILES[module].name == "__init__.py":
        parts.append("__init__")
    return ".".join([*parts[: -node.level], *filter(None, [node.module])])


def imported(module: str) -> Iterator[str]:
    """Our modules that `module` imports, wherever in the file; not those under TYPE_CHECKING."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for part in node.body
        for inner in ast.walk(part)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom):
            source = absolute(module, node)
            for alias in node.names if source in FILES else ():
                inner_module = f"{source}.{alias.name}"
                yield inner_module if inner_module in FILES else source


IMPORTS = {module: sorted(set(imported(module)) - {module}) for module in FILES}


@pytest.mark.parametrize("module", FILES)
def test_a_file_fits_its_size(module: str) -> None:
    lines = len(FILES[module].read_text(encoding="utf-8").splitlines())
    command = module.startswith("trainer.") and is_command(module)
    most = MOST_COMMAND_LINES if command else MOST_LINES
    assert lines <= most, f"{module} has {lines} lines: split it"


def test_a_function_fits_a_screen() -> None:
    long = [
        f"{module}: {node.name}, {node.end_lineno - node.lineno + 1} lines"
        for module, file in FILES.items()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MOST_FUNCTION_LINES
    ]
    assert long == []


def upward(imports: Mapping[str, Iterable[str]]) -> list[str]:
    """The imports that point from a package to one that builds on it."""
    return [
        f"{module} imports {target}"
        for module, targets in imports.items()
        for target in targets
        if PACKAGES.index(target.split(".")[0]) < PACKAGES.index(module.split(".")[0])
    ]


def circle(imports: Mapping[str, Iterable[str]]) -> str | None:
    """A chain of imports that comes back to where it began."""
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> str | None:
        if module in path:
            return " -> ".join((*path[path.index(module) :], module))
        if module in done:
            return None
        rounds = (visit(target, (*path, module)) for target in imports.get(module, ()))
        chain = next(filter(None, rounds), None)
        done.add(module)
        return chain

    return next(filter(None, (visit(module, ()) for module in imports)), None)


def test_imports_point_one_way() -> None:
    assert upward(IMPORTS) == []


def test_no_import_circle() -> None:
    assert circle(IMPORTS) is None


def test_no_library_module_imports_a_command() -> None:
    wrong = [
        f"{module} imports {target}"
        for module, targets in IMPORTS.items()
        for target in targets
        if is_command(target) and not is_command(module) and not module.startswith("benchmarks")
    ]
    assert wrong == []


def test_the_walk_sees_what_it_looks_for() -> None:
    assert {"trainer.sync", "data_tools.cli", "benchmarks.report"} <= FILES.keys()
    assert any(target.startswith("data_tools.") for target in IMPORTS["trainer.sync"])
    assert any(target.startswith("trainer.") for target in IMPORTS["benchmarks.gpu_suite.lab"])


def test_imports_that_count_dots_are_seen() -> None:
    near = ast.parse("from . import zb\nfrom .track import x\nfrom ..model import y").body
    assert [absolute("trainer.score.faces", node) for node in near] == [
        "trainer.score", "trainer.score.track", "trainer.model",
    ]  # fmt: skip
    assert absolute("trainer.score", near[0]) == "trainer.score"


def test_an_upward_import_and_a_circle_are_found() -> None:
    assert upward({"trainer.a": ["data_tools.b"], "data_tools.b": ["trainer.a"]}) == [
        "data_tools.b imports trainer.a"
    ]
    assert circle({"a": ["b", "c"], "b": ["c"], "c": []}) is None
    assert circle({"a": ["b"], "b": ["c"], "c": ["b"]}) == "b -> c -> b"
