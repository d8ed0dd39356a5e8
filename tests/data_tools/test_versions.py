"""Versions of packages, for reports."""

from importlib.metadata import version

from data_tools.versions import versions


def test_only_what_is_installed_is_listed() -> None:
    assert versions("numpy", "no-such-package", "torch") == {
        "numpy": version("numpy"),
        "torch": version("torch"),
    }
