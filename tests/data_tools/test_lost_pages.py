"""A mapped file that is cut short: the process that reads it says so."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

_READS = """
import faulthandler, mmap, os, sys
from pathlib import Path
from data_tools.lost_pages import watch
path = Path(sys.argv[1])
if "other" in sys.argv:
    faulthandler.enable()
with open(path, "rb") as stream:
    mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
watch(path, path.stat().st_size)
os.truncate(path, 5000)
print(len(mapped[100_000:]))
"""


@pytest.mark.parametrize("other", [False, True])
def test_a_file_that_is_cut_short_while_it_is_mapped_is_named(tmp_path: Path, other: bool) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(200_000))
    done = subprocess.run(
        [sys.executable, "-c", _READS, str(path), *["other"] * other],
        capture_output=True,
        text=True,
    )
    if other:  # whoever has set a handler keeps it
        assert done.returncode == -signal.SIGBUS and "Bus error" in done.stderr
        return
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{path} was changed while in use; start again\n"
