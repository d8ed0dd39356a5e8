"""The map of docs/ARCHITECTURE.md: every module and what its docstring says it is.

`python -m benchmarks.report` places it, so the map cannot grow stale.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]

# In the order in which data flow; folders that are not listed follow.
_FOLDERS = (
    "data_tools",
    "data_tools/commands",
    "data_tools/video",
    "data_tools/synth",
    "trainer",
    "trainer/config",
    "trainer/data",
    "trainer/model",
    "trainer/train",
    "trainer/score",
    "benchmarks",
    "benchmarks/fuzz",
    "benchmarks/gpu_suite",
    "benchmarks/loaders",
    "benchmarks/strangers",
    "benchmarks/studies",
)


def module_map() -> str:
    """One table per folder, as Markdown; __init__.py gives the sentence above its table."""
    paths = [path for top in ("data_tools", "trainer", "benchmarks") for path in modules(top)]
    folders = {path.parent.relative_to(ROOT).as_posix() for path in paths}
    listed = [folder for folder in _FOLDERS if folder in folders]
    parts = []
    for folder in [*listed, *sorted(folders - set(listed))]:
        rows = [
            f"| `{path.relative_to(ROOT).as_posix()}` | {purpose(path)} |\n"
            for path in paths
            if path.parent == ROOT / folder and path.name != "__init__.py"
        ]
        above = purpose(ROOT / folder / "__init__.py")
        header = "| module | what it holds |\n| --- | --- |\n"
        parts.append(f"### {folder}/\n\n{above}\n\n{header}{''.join(rows)}")
    return "\n".join(parts)


def modules(package: str) -> list[Path]:
    """Every module of a package, sorted."""
    return sorted((ROOT / package).rglob("*.py"))


def purpose(path: Path) -> str:
    """The first sentence of a module's docstring, in one line, fit for a table."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    words = " ".join(docstring.split("\n\n")[0].split())
    sentence, dot, _ = words.partition(". ")
    return f"{sentence}{dot.strip()}".replace("|", "\\|")
