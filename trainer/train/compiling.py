"""torch.compile of the forward pass, and its failures in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from data_tools.errors import UsageError
from data_tools.names import first_line


def compile_forward(module: nn.Module) -> None:
    """Let calls of `module` run what torch.compile makes of them, from the first call on.

    In place, so that the names of weights stay what they are in checkpoints. What several processes
    train is compiled after it was wrapped in DistributedDataParallel, as torch recommends: the
    compiler then cuts the graph where gradients are exchanged.

    Args:
        module: also one that has hooks; its other methods are not compiled.

    Raises:
        UsageError: torch cannot compile on this system at all.
    """
    try:
        module.compile()
    except RuntimeError as error:
        raise _cannot("train.compile", error) from error


@contextmanager
def naming_compiler_faults(option: str) -> Iterator[None]:
    """Raise as `UsageError`, in one line, what the compiler raises when a module is first called.

    Args:
        option: what the user set, for the message.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_of_the_compiler(error):
            raise
        raise _cannot(option, error) from error


def _is_of_the_compiler(error: RuntimeError) -> bool:
    """By the module of its class, lest the compiler be imported (seconds) where none is used."""
    modules = (kind.__module__ for kind in type(error).mro())
    return any(module.startswith(("torch._dynamo", "torch._inductor")) for module in modules)


def _cannot(option: str, error: RuntimeError) -> UsageError:
    # what a backend raised is more than that it raised something
    cause = getattr(error, "inner_exception", error)
    return UsageError(
        f"{option}: torch cannot compile this model here ({first_line(cause)}); leave it out"
    )
