"""Public names of a package that are loaded when they are first used (PEP 562)."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def load_on_use(public: dict[str, Any], modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose names live in `modules`; knows `__version__`, too.

    Args:
        public: the package's globals(), which keep what was loaded.
        modules: the full name of the module of each public name.
    """

    def load(name: str) -> Any:
        if name == "__version__":
            value: Any = _version()
        elif name in modules:
            value = getattr(import_module(modules[name]), name)
        else:
            raise AttributeError(f"module {public['__name__']!r} has no attribute {name!r}")
        public[name] = value
        return value

    return load


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("syncnet-trainer")
    except PackageNotFoundError:  # a checkout that nobody installed
        return "0+unknown"
