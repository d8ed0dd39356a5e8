"""What a user can mend, as exceptions whose message is one sentence. Any other is a bug of ours."""

# In what libraries say when there is no memory left, be it of another kind than MemoryError.
_NO_MEMORY = (
    "allocate memory",  # torch, and the system (ENOMEM)
    "out of memory",  # torch, of a GPU
    "could not create a primitive",  # oneDNN
    "can't start new thread",
    "bad_alloc",
)


def out_of_memory(error: Exception) -> bool:
    """Whether there was no memory left: Python, C++ and the libraries each say so in their way."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    )


class UserError(Exception):
    """Data that cannot be used as they are. Exit status 1."""


class UsageError(UserError, ValueError):
    """An option, argument or setting that makes no sense. Exit status 2."""


class MissingPackage(UserError, RuntimeError):
    """A package of an optional extra is not installed; the message names the extra."""


def not_prepared(package: str | None, purpose: str) -> MissingPackage:
    """The error for a package of the extra [prepare] that is missing, and what it is needed for."""
    return MissingPackage(
        f"{package} is not installed; {purpose} needs: pip install 'syncnet-trainer[prepare]'"
    )
