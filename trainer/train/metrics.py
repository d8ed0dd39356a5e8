"""Figures of a running training for Prometheus: `--log prometheus[:port]`, read at /metrics.

Counters count what this start of the run has done: a resumed one begins at 0 anew, as Prometheus
expects of them. `trainer/configs/grafana.json` is a dashboard of all of these.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from data_tools.errors import UsageError, UserError

NAME, PORT = "prometheus", 9464
# Of so many steps the latest utilisation is; a training's is about as steady as their number.
_LATEST = 100


def port_of(tracker: str) -> int | None:
    """The port of "prometheus[:port]"; None for any other tracker.

    Raises:
        UsageError: that is no port.
    """
    name, colon, port = tracker.partition(":")
    if name != NAME:
        return None
    if not colon:
        return PORT
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536):
        raise UsageError(f"--log {tracker}: a port is a number from 0 to 65535 (0: any free one)")
    return int(port)


class Metrics:
    """Serves the figures on all addresses of this machine until it is closed.

    Args:
        port: to listen on; 0: any free one.
        batch_size: samples a step, over all processes.
        total: steps of the whole training.
        asked: figures that are asked for when they are read, by name: see `setup`.

    Attributes:
        port: listened on.

    Raises:
        UserError: the port cannot be listened on.
    """

    def __init__(
        self,
        port: int,
        batch_size: int,
        total: int,
        asked: Mapping[str, Callable[[], float]],
    ) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

        registry = CollectorRegistry()

        def gauge(name: str, what: str, labels: tuple[str, ...] = ()) -> Any:
            return Gauge(f"syncnet_{name}", what, labels, registry=registry)

        def counter(name: str, what: str, labels: tuple[str, ...] = ()) -> Any:
            return Counter(f"syncnet_{name}", what, labels, registry=registry)

        self._batch_size = batch_size
        self._latest: deque[tuple[float, float]] = deque(maxlen=_LATEST)
        self._step = gauge("step", "Steps done since the run began, resumes included")
        gauge("steps_planned", "Steps of the whole training").set(total)
        self._loss = gauge("loss", "Loss of the latest step")
        self._utilisation = gauge(
            "utilisation", f"Share of the latest {_LATEST} steps not spent waiting for data, 0..1"
        )
        self._steps = counter("steps", "Steps done by this process")
        self._samples = counter("samples", "Samples trained on by all processes since it began")
        self._seconds = counter("step_seconds", "Time of steps")
        self._phases = counter(
            "phase_seconds", "Time of steps by phase; data is waiting for a batch", ("phase",)
        )
        self._validation = gauge(
            "validation", "Figures of the latest validation", ("set", "figure")
        )
        self._guard = gauge("guard", "What the guard sees of the latest steps", ("figure",))
        for name, ask in asked.items():
            gauge(name, name.replace("_", " ")).set_function(ask)
        try:
            self._server, self._thread = start_http_server(port, registry=registry)
        except OSError as error:
            raise UserError(
                f"--log {NAME}:{port}: the port cannot be listened on: {error.strerror}"
            ) from None
        self.port: int = self._server.server_port

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures of one step, as trackers get them: "train/loss", "val/auc"."""
        for name, value in figures.items():
            group, _, figure = name.partition("/")
            if group == "guard":
                self._guard.labels(figure).set(value)
            elif group != "train":
                self._validation.labels(group, figure).set(value)
        if "train/total_ms" in figures:
            self._take(step, figures)

    def _take(self, step: int, figures: Mapping[str, float]) -> None:
        total, waited = figures["train/total_ms"], figures["train/data_ms"]
        self._step.set(step + 1)
        self._loss.set(figures["train/loss"])
        self._steps.inc()
        self._samples.inc(self._batch_size)
        self._seconds.inc(total / 1e3)
        for name, value in figures.items():
            phase = name.removeprefix("train/").removesuffix("_ms")
            if name.endswith("_ms") and phase != "total":
                self._phases.labels(phase).inc(value / 1e3)
        self._latest.append((waited, total))
        spent = sum(each for _, each in self._latest)
        if spent:
            self._utilisation.set(1 - sum(each for each, _ in self._latest) / spent)

    def close(self) -> None:
        """Listen no longer."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
