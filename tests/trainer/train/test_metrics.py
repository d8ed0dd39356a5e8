"""What Prometheus reads of a training: a real run, scraped while it goes, and the dashboard."""

import json
import re
import socket
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from data_tools.errors import UsageError
from runs import REPOSITORY, command
from trainer.run import main
from trainer.train import metrics
from trainer.train.trainer import Trainer

parser = pytest.importorskip("prometheus_client.parser", reason="needs the extra [prometheus]")


def scrape(port: int) -> dict[tuple[str, ...], float]:
    """What is at /metrics: by name and the values of labels, in order of their names."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def expressions(panels: list[dict[str, Any]]) -> set[str]:
    return {target["expr"] for panel in panels for target in panel["targets"]}


def test_a_run_can_be_read_while_it_goes(
    shards_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    read: list[dict[tuple[str, ...], float]] = []
    ports: list[int] = []
    saving = Trainer._save

    def scraping(self: Trainer, step: int, best: bool) -> None:
        assert self.opened.tracker.metrics is not None
        ports.append(self.opened.tracker.metrics.port)
        saving(self, step, best)
        read.append(scrape(ports[-1]))

    monkeypatch.setattr(Trainer, "_save", scraping)
    argv = command(shards_folder, tmp_path / "run", "--train.epochs", "2", "--train.val_every", "1")
    argv += ["--log", "prometheus:0", "--data.cache", str(tmp_path / "cache"), "--model.name"]
    argv += ["small", "--data.cache_gb", "1"]
    assert main(argv) == 0
    assert f"metrics for Prometheus on port {ports[0]}" in capsys.readouterr().out
    first, last = read[0], read[-1]
    assert last["syncnet_step",] == last["syncnet_steps_planned",] == 2 * first["syncnet_step",]
    assert last["syncnet_steps_total",] == last["syncnet_step",]
    assert last["syncnet_samples_total",] == 8 * last["syncnet_steps_total",]
    waited = last["syncnet_phase_seconds_total", "data"]
    assert 0 < waited < last["syncnet_step_seconds_total",]
    # fewer steps than the latest hundred: both are of all
    assert last["syncnet_utilisation",] == pytest.approx(
        1 - waited / last["syncnet_step_seconds_total",]
    )
    assert 0 <= last["syncnet_validation", "auc", "val"] <= 1
    assert last["syncnet_quarantined_clips",] == last["syncnet_fetched_bytes",] == 0
    # how many are written by then depends on the disk
    assert 0 <= last["syncnet_cache_frames_found",] < last["syncnet_cache_frames",]
    # the dashboard asks for what there is, and leaves nothing out but what Prometheus adds
    board = json.loads((REPOSITORY / "trainer" / "configs" / "grafana.json").read_text())
    asked = set(re.findall(r"syncnet_\w+", " ".join(expressions(board["panels"]))))
    served = {name for name, *_ in last if name.startswith("syncnet_")}
    served = {name for name in served if not name.endswith("_created")}
    assert asked == served | {"syncnet_guard"}
    # and closes with the run
    with socket.socket() as free, pytest.raises(ConnectionRefusedError):
        free.connect(("127.0.0.1", ports[0]))


def test_a_port_that_is_taken_is_one_sentence(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        asked = ["--log", f"prometheus:{port}", "--train.epochs", "1"]
        assert main(command(shards_folder, tmp_path / "run", *asked)) == 1
    said = capsys.readouterr().err
    assert f"--log prometheus:{port}: the port cannot be listened on" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("port", ["", "-1", "65536", "1e3", "٣", "99999999999"])
def test_what_is_no_port_is_refused(port: str) -> None:
    assert metrics.port_of("prometheus") == metrics.PORT
    assert metrics.port_of("wandb:1") is None
    with pytest.raises(UsageError, match="a port is a number"):
        metrics.port_of(f"prometheus:{port}")
