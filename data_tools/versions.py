"""Which versions of packages are installed, for reports that must be told apart later."""

import importlib.metadata


def versions(*packages: str) -> dict[str, str]:
    """The version of each of the packages that is installed, in the order given."""
    installed = {}
    for package in packages:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
