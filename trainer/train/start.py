"""The weights that a run begins with, where they are not drawn at random: `model.init`."""

from collections.abc import Callable

from data_tools.errors import UsageError
from trainer.config.settings import Model
from trainer.model.layers import frozen_layers, layers_of
from trainer.model.transfer import Start, start_from, told
from trainer.model.weights import find_weights
from trainer.train.checkpoint import CheckpointError, Resumed
from trainer.train.distributed import Processes


def open_start(
    model: Model, resumed: Resumed | None, processes: Processes, say: Callable[[str], None]
) -> Start | None:
    """What `model.init` gives; of a run that is resumed, what its checkpoint says of it.

    Raises:
        WeightsError: there is no such file, or it holds no weights.
        UsageError: nothing of it fits, or layers would be frozen that it does not have.
        CheckpointError: the checkpoint does not say what the run began with.
    """
    if model.init is None:
        return None
    if resumed is not None:
        return _resumed(model, resumed)
    path = find_weights(model.init)

    def first() -> None:  # its mistakes are told once
        start = start_from(path, model.name)
        say(f"model.init {model.init}: {told(start.origin, model.name)}")
        _check_frozen(model, start)

    processes.together(first)
    return start_from(path, model.name)


def _check_frozen(model: Model, start: Start) -> None:
    frozen = () if model.freeze is None else frozen_layers(model.freeze, model.name)
    bare = [name for name in frozen if name not in start.origin.layers]
    if bare:
        raise UsageError(
            f"model.freeze {model.freeze}: {', '.join(bare[:4])} did not come with model.init "
            f"{model.init} and would stay at random"
        )


def _resumed(model: Model, resumed: Resumed) -> Start:
    origin = resumed.progress.init
    if origin is None or not set(origin.layers) <= layers_of(model.name).keys():
        raise CheckpointError(
            f"{resumed.path} is damaged: its init does not name the layers that model.init "
            f"{model.init} gave; resume from another checkpoint (step-*.pt, best.pt)"
        )
    return Start(origin, {})
