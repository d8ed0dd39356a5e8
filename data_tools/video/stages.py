"""Where the time goes while a video becomes clips."""

import time


class StageClock:
    """Adds up seconds by stage: decode, shots, detect, crop, encode, speech, write.

    took: the sums, which grow.
    """

    def __init__(self, took: dict[str, float]) -> None:
        self._took = took
        self._last = time.perf_counter()

    def start(self) -> None:
        """What passed until now belongs to no stage."""
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """What passed since the last call belongs to `stage`."""
        now = time.perf_counter()
        self._took[stage] = self._took.get(stage, 0.0) + now - self._last
        self._last = now
