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
gone = path.with_name("gone")
watch(gone, 7)  # was mapped, and is deleted: that is no fault
if "broken" in sys.argv:
    watch(None, 7)
with open(path, "rb") as stream:
    mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
watch(path, path.stat().st_size)
if "broken" in sys.argv:
    from data_tools import lost_pages
    del lost_pages._mapped[path]
os.truncate(path, 5000)
print(len(mapped[100_000:]))
"""


@pytest.mark.parametrize("how", ["alone", "other", "broken"])
def test_a_file_that_is_cut_short_while_it_is_mapped_is_named(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(200_000))
    done = subprocess.run(
        [sys.executable, "-c", _READS, str(path), how],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if how == "other":  # whoever has set a handler keeps it
        assert done.returncode == -signal.SIGBUS and "Bus error" in done.stderr
        return
    assert (done.returncode, done.stdout) == (1, "")
    if how == "broken":  # what fails within the handler ends as well, and is not tried for ever
        return
    assert done.stderr == f"{path} was changed while in use; start again\n"
