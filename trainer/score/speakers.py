"""Who speaks in a clip, told by a name: clips of one speaker are alike, and counted together."""

import re
from collections.abc import Callable

from data_tools.errors import UsageError


def speaker_finder(pattern: str | None) -> Callable[[str], str]:
    """What tells the speaker by a name (--speakers).

    It is what the regular expression finds in the name, or its group, if it has one; where it finds
    nothing, and without one, the whole name.

    Raises:
        UsageError: it is no regular expression, or has several groups.
    """
    if pattern is None:
        return lambda name: name
    try:
        known = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--speakers is no regular expression: {error}") from None
    if known.groups > 1:
        raise UsageError("--speakers takes one group at most, the speaker's name")

    def speaker(name: str) -> str:
        found = known.search(name)
        return (found[known.groups] if found else None) or name

    return speaker
