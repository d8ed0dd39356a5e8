"""What the fuzzers have found in this project, mended since; tests of the readers keep it so."""

# By target, a phrase each: what an input could bring about.
MENDED: dict[str, tuple[str, ...]] = {
    "tar": (
        "a traceback for a member's name that is no UTF-8",
        "a traceback for statistics of fewer clips than the tar and its index hold",
    ),
    "cache": (
        "a traceback for a head that is no UTF-8",
        "a traceback for a head nested a thousand times",
        "as much memory as a head asks for",
    ),
    "list": (
        "a traceback for a name with NUL in it",
        "minutes spent on a line of a megabyte",
        "a whole batch refused for one name that is too long",
        "a traceback for a link that leads to itself",
    ),
    "url": (
        "a traceback for brackets about the server's name",
        "a signature shown of a URL that is not known and has a blank in it",
        "a password shown that has a slash in it, or stands behind a name with a blank",
    ),
    "results": (
        "a traceback for a copy that does not say what was done",
        "a traceback for a track without an offset",
        "a traceback for a copy of which the file says True was done",
        "a traceback for an offset without end",
        "a traceback for a page of a track whose fields are of other kinds",
        "as many bars of a picture as an offset says",
        "a traceback for a page of a name with half a character",
    ),
    "config": ("a terminal commanded by a value that is refused",),
    "option": (
        "a traceback for a number that is no UTF-8",
        "a terminal commanded by what stands before an infinity",
    ),
    "torch": ("as much memory as a record of a checkpoint claims to take",),
    "jpeg": ("a frame that is packed and then refused in training, for a length of 0",),
    "safetensors": ("a terminal commanded by a kind of numbers that is not known",),
    "clip": ("a traceback for half a character in clip.json",),
    "mend": ("a refusal in the library's words for a size that no memory holds",),
    "video": (
        "a list of other files read as a video of theirs",
        "a traceback for an FLV in which another stream begins late",
        "a refusal in the library's words for a size that no memory holds",
        "pictures without end for a rate of one in years",
        "a traceback for colours that nothing can convert",
    ),
}
