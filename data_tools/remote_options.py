"""Options of every command that takes a set of shards by folder or URL."""

from argparse import ArgumentTypeError
from dataclasses import fields
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from data_tools.cli import add_options, check_options, file_name
from data_tools.mirror import LocalOptions
from data_tools.remote import is_remote

REMOTE = "http(s)://, s3://, gs://, az:// or hf://"


def set_name(text: str) -> str | Path:
    """A type for sets of shards: a URL stays as it is, all else is a folder."""
    return text if is_remote(text) else file_name(text)


def add_local_options(parser: Any, group: str = "") -> None:
    """--local and --local-gb; of group "data", --data.local and --data.local_gb.

    Those of a group are named as `trainer.run` names its settings.
    """
    if not group:
        add_options(parser, LocalOptions)
        return
    help_of = "as `trainer.run --help` says: {}"
    parser.add_argument(
        f"--{group}.local",
        type=_text,
        metavar="DIR",
        help=help_of.format("where copies of shards that are given as a URL are kept"),
    )
    parser.add_argument(
        f"--{group}.local_gb",
        type=float,
        default=0.0,
        metavar="GB",
        help=help_of.format("gigabytes that they may take; 0: as many as the disk has"),
    )


def local_options(args: Namespace) -> LocalOptions:
    """What was given of the options that `add_local_options` added.

    Raises:
        UsageError: they are out of range.
    """
    options = LocalOptions(**{each.name: args[each.name] for each in fields(LocalOptions)})
    check_options(options)
    return options


def local_arguments(options: LocalOptions) -> list[str]:
    """What tells `trainer.run` the same."""
    words = [] if options.local is None else ["--data.local", options.local]
    return words + (["--data.local_gb", str(options.local_gb)] if options.local_gb else [])


def _text(text: str) -> str:
    if not text:
        raise ArgumentTypeError("a file name is empty")
    return text
