"""The end of a zip file, read as strictly as `torch.save` writes it.

What `zipfile` finds there is private to it, and has moved: since the releases that mend
CVE-2025-8291 its place of the end is that of another record.
"""

import struct
from typing import IO

# The last records of a zip file without comment (PKWARE's APPNOTE.TXT, 4.3.14 to 4.3.16): the end
# for files over 4 GB, where that end lies, and the end itself.
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR = struct.Struct("<4sIQI")
_END = struct.Struct("<4s4H2IH")


class ZipEndError(Exception):
    """What is wrong with the file, as the end of a sentence that begins with its name."""


def zip_end(stream: IO[bytes], size: int) -> tuple[int, int]:
    """Bytes and place of a zip file's list of records, read where `torch.save` puts them.

    Raises:
        ZipEndError: the file does not end as one; two readers could disagree about its end.
    """
    damaged = ZipEndError("is damaged or truncated; fetch or save it again")
    tail_size = min(size, _END64.size + _LOCATOR.size + _END.size)
    stream.seek(size - tail_size)
    tail = stream.read(tail_size)
    if len(tail) < _END.size:
        raise damaged
    signature, *_, directory_size, directory_offset, comment = _END.unpack(tail[-_END.size :])
    if signature != b"PK\5\6" or comment:
        stream.seek(max(0, size - (1 << 16) - _END.size))  # a comment has 64 KB at most
        if b"PK\5\6" in stream.read():
            raise ZipEndError("is damaged: something follows its end")
        raise damaged
    before = tail[: -_END.size]
    if len(before) < _LOCATOR.size or before[-_LOCATOR.size :][:4] != b"PK\6\7":
        return directory_size, directory_offset
    _, _, end64, _ = _LOCATOR.unpack(before[-_LOCATOR.size :])
    if end64 != size - tail_size or len(before) < _END64.size + _LOCATOR.size:
        raise ZipEndError("is damaged: something follows its end")
    signature, *_, directory_size, directory_offset = _END64.unpack(before[: _END64.size])
    if signature != b"PK\6\6":
        raise damaged
    return directory_size, directory_offset
