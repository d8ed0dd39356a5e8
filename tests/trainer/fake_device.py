"""A device that computes in its own time while the host goes on: a double of a GPU's one stream."""

from dataclasses import dataclass, field


@dataclass
class FakeDevice:
    """Milliseconds on one clock.

    Attributes:
        now: where the host is.
        free: when the device will have done all that is queued.
        waits: what the host waited for events, each time that it had to.
    """

    now: float = 0.0
    free: float = 0.0
    waits: list[float] = field(default_factory=list)

    def queue(self, milliseconds: float) -> None:
        """Work of so long, which begins when the host has asked and what was before it is done."""
        self.free = max(self.free, self.now) + milliseconds

    def wait_for(self, moment: float) -> None:
        """Nothing queued later begins before `moment`: a batch that is decoded by then."""
        self.free = max(self.free, self.now, moment)

    def host(self, milliseconds: float) -> None:
        """The host does something else."""
        self.now += milliseconds

    def event(self) -> "FakeEvent":
        """As torch.cuda.Event()."""
        return FakeEvent(self)


class FakeEvent:
    """As `trainer.train.stream.Event`."""

    def __init__(self, device: FakeDevice) -> None:
        self._device = device
        self._at: float | None = None

    def record(self) -> None:
        self._at = max(self._device.free, self._device.now)

    @property
    def at(self) -> float:
        assert self._at is not None, "an event that was not recorded"
        return self._at

    def query(self) -> bool:
        return self.at <= self._device.now

    def synchronize(self) -> None:
        if not self.query():
            self._device.waits.append(self.at - self._device.now)
            self._device.now = self.at

    def elapsed_time(self, end_event: "FakeEvent") -> float:
        assert self.query() and end_event.query(), "times of events that have not passed"
        return end_event.at - self.at
