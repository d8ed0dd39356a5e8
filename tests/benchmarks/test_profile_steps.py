"""Figures of a profile, its page, past runs, and the attribution of the first step."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import profile_charts, profile_page, profile_steps, profiling
from benchmarks.attribute import ALONE, LADDER, Causes
from benchmarks.result import Result
from benchmarks.sync_picture import find_browser
from data_tools.errors import UserError
from trainer.train.timing import PHASES, StepRow


def make_rows(first: float, other: float, epochs: int = 3, steps: int = 4) -> list[dict[str, Any]]:
    """Rows whose first step of an epoch waits `first` ms, the others `other`, compute 10 ms."""
    rows = []
    for step in range(epochs * steps):
        wait = other if step % steps else first
        row = {"epoch": step // steps + 1, "step": step, "phase": "train", "loss": 0.5}
        row |= {f"{phase}_ms": 0.0 for phase in PHASES} | {"data_ms": wait, "forward_ms": 10.0}
        rows.append(row | {"total_ms": wait + 10.0})
    return rows


def steps_of(rows: list[dict[str, Any]]) -> list[StepRow]:
    return [StepRow(**row) for row in rows]


def test_figures_of_a_profile() -> None:
    rows = make_rows(first=90, other=10)
    rows[0]["data_ms"], rows[0]["total_ms"] = 1000.0, 1010.0  # the cold start counts apart
    found = profiling.figures(steps_of(rows), batch_size=8)
    assert found["first_step_wait_ms"] == 90 and found["other_step_wait_ms"] == 10
    assert found["first_step_share"] == pytest.approx(100 / 160)
    assert found["utilisation"] == pytest.approx(40 / 160)
    assert found["samples_per_s"] == pytest.approx(8 * 4 / 0.160)
    assert found["cold_start_ms"] == 1000
    assert found["process_share"] == {"data": 0.75, "forward": 0.25}


def test_validation_is_one_of_the_processes() -> None:
    rows = make_rows(first=10, other=10)
    rows[-1]["validation_ms"] = 160.0
    found = profiling.figures(steps_of(rows), batch_size=8)
    assert found["process_share"] == {"data": 0.25, "forward": 0.25, "validation": 0.5}
    assert found["utilisation"] == 0.5 and found["validation_ms"] == 160


def test_one_epoch_of_one_step_has_figures_too() -> None:
    found = profiling.figures(steps_of(make_rows(5, 0, epochs=1, steps=1)), 2)
    assert found["other_step_wait_ms"] is None and found["first_step_share"] == 1


def test_the_end_of_an_epoch_counts_to_the_next_first_step() -> None:
    rows = make_rows(5, 1, epochs=2, steps=2)
    rows[1]["boundary_ms"] = 100.0
    rows[1]["total_ms"] += 100.0
    moved = profiling._boundary_to_first(rows)
    assert moved[1]["total_ms"] == 11 and moved[2]["data_ms"] == 105
    assert moved[2]["total_ms"] == 115


def made_profile(name: str, epochs: int = 3) -> profiling.Profile:
    rows = steps_of(make_rows(50, 1, epochs))
    return profiling.Profile(name, "as it was", rows, profiling.figures(rows, 8))


def test_the_page_needs_no_network_and_escapes() -> None:
    remedies = [["remedy", "wait"], ["<small>", "1 ms"]]
    result = Result("profile_steps", {})
    text = profile_page.page([made_profile("<torch>")], result, ["Main cause: <b>."], remedies)
    assert text.count('class="chart"') == 5 and profile_page.NO_CHARTS not in text
    own, script = text.split("<script nonce=", 1)
    assert "default-src 'none'" in own and "<small>" not in text
    assert "<torch>" not in text and "&lt;torch&gt;" in own and "\\u003ctorch>" in script
    assert re.findall(r'(?:src|href)="', own) == [] and "@import" not in own
    nonce = re.findall("'nonce-([0-9a-f]+)'", own)
    assert script.count(f'<script nonce="{nonce[0]}">') == 1 and "<script src" not in script


def test_its_charts_are_valid_and_hold_every_step() -> None:
    vl_convert = pytest.importorskip("vl_convert")
    profiles = [made_profile("a"), made_profile("b", epochs=1)]
    shown = profile_charts.sections(profiles)
    for spec in (spec for section in shown for _, spec in section.charts):
        assert "marks" in vl_convert.vegalite_to_vega(spec)
    (first, _), others = shown[0].charts, shown[1].charts[0][1]["data"]["values"]
    bars = first[1]["data"]["values"]
    assert [bar["ms"] for bar in bars] == [50, 10, *[1, 10] * 3]
    assert [bar["from"] for bar in bars[:3]] == [0, 0.05, 0.06] and bars[-1]["step"] == 4
    assert [row["ms"] for row in others if row["loader"] == "b"] == [50, 1]


def test_its_charts_answer_in_a_browser(tmp_path: Path) -> None:
    try:
        found = find_browser()
    except UserError as none:
        pytest.skip(str(none))
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra [browser-test]")
    file = tmp_path / "page.html"
    names = "</script><img src=x onerror=alert(1)>", "b"
    profiles = [made_profile(name) for name in names]
    file.write_text(profile_page.page(profiles, Result("profile_steps", {}), [], []))
    said: list[str] = []
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=found)
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-drawn]")
        assert page.locator(".chart svg").count() == 6
        page.locator('.chart path[aria-roledescription="rect mark"]').first.hover(force=True)
        told = page.locator("#vg-tooltip-element.visible")
        told.wait_for()
        assert "waiting for data" in told.inner_text() and "50.0" in told.inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        browser.close()
    assert said == [file.as_uri()]


def past_run(folder: Path, rows: list[dict[str, Any]], batch_size: int = 8) -> Path:
    folder.mkdir()
    (folder / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.yaml").write_text(f"train:\n  batch_size: {batch_size}\n")
    return folder


def test_past_runs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = past_run(tmp_path / "a", make_rows(90, 10))
    val = {**make_rows(1, 1)[0], "phase": "val", "total_ms": 1500.0}
    b = past_run(tmp_path / "b", [*make_rows(1, 1), val])
    out = tmp_path / "out"
    assert profile_steps.main(["--compare", str(a), str(b), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "90.0 ms" in shown and "1,500.0 ms" in shown and "profile.html" in shown
    written = json.loads((out / "profile.json").read_text())
    assert written["loaders"]["a"]["first_step_wait_ms"] == 90
    assert written["loaders"]["b"]["first_step_share"] == 0.25
    assert (out / "profile.html").read_text().count('class="chart"') == 6
    assert profile_page.NO_CHARTS not in shown


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    run, out = past_run(tmp_path / "a", make_rows(90, 10)), tmp_path / "out"
    assert profile_steps.main(["--from", str(run), "--out", str(out)]) == 0
    text = (out / "profile.html").read_text()
    assert "syncnet-trainer[html]" in text and "<script" not in text and "90.0 ms" in text
    assert profile_page.NO_CHARTS in capsys.readouterr().out


def test_two_runs_of_one_name_stay_apart(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    a = past_run(tmp_path / "x" / "run", make_rows(90, 10))
    b = past_run(tmp_path / "y" / "run", make_rows(1, 1))
    out = tmp_path / "out"
    assert profile_steps.main(["--compare", str(a), str(b), "--out", str(out)]) == 0
    assert len(json.loads((out / "profile.json").read_text())["loaders"]) == 2
    assert len(list(out.glob("*.steps.jsonl"))) == 2


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--from", "nowhere"], 2, "nowhere does not exist"),
        (["--from", "README.md"], 2, "README.md"),
        (["--loader", "fast"], 2, "no loader 'fast'"),
        (["--batch", "3"], 2, "--batch must be even"),
        (["--steps", "0"], 2, "--steps must be at least 1"),
        (["--shards", "nowhere"], 1, "nowhere"),
        (["--compare", "nowhere", "nowhere"], 2, "nowhere does not exist"),
        (["--from", "a", "--attribute"], 2, "leave --attribute out"),
        (["--from", "a", "--compare", "a", "b"], 2, "give one of them"),
        (["--attribute", "--model", "small"], 2, "leave --model out"),
        (["--device", "toaster"], 2, "must be cpu or cuda"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert profile_steps.main(arguments) == status
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "Traceback" not in error


def test_rows_of_the_wrong_kind_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = past_run(tmp_path / "a", [{**make_rows(1, 1)[0], "total_ms": "long"}])
    assert profile_steps.main(["--from", str(run)]) == 2
    error = capsys.readouterr().err
    assert "none of step times" in error and error.count("\n") == 1


def test_a_run_without_its_config_asks_for_the_batch_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = past_run(tmp_path / "a", make_rows(90, 10))
    (run / "config.yaml").unlink()
    assert profile_steps.main(["--from", str(run)]) == 2
    assert "add --batch N" in capsys.readouterr().err
    out = str(tmp_path / "out")
    assert profile_steps.main(["--from", str(run), "--batch", "8", "--out", out]) == 0


def causes(**waits: float) -> Causes:
    names = [trial.name for trial in (*LADDER, *ALONE)]
    given = dict.fromkeys(names, 50.0) | {k.replace("_", "+"): v for k, v in waits.items()}
    return Causes({name: steps_of(make_rows(wait, 0)) for name, wait in given.items()})


def test_the_cause_whose_removal_wins_most_is_the_main_one() -> None:
    found = causes(seed=1000.0, persistent=900.0, persistent_small=200.0,
                   persistent_small_endless=50.0, ours=1.0)  # fmt: skip
    assert found.main_cause() == "a whole batch per worker"
    assert sum(found.shares().values()) == pytest.approx(1000)
    assert any("Persistent workers alone are no cure" in line for line in found.verdict())


def test_where_workers_start_slowly_persistence_is_a_cure() -> None:
    found = causes(seed=1000.0, persistent=100.0, persistent_small=90.0,
                   persistent_small_endless=50.0, ours=1.0)  # fmt: skip
    assert found.main_cause() == "worker start"
    assert any("alone are a cure" in line for line in found.verdict())


@pytest.mark.slow
def test_the_emulation_runs_and_writes_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, cache = str(tmp_path / "out"), str(tmp_path / "cache")
    arguments = ["--quick", "--emulate", "seed", "--attribute", "--out", out, "--cache", cache]
    assert profile_steps.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "Main cause: " in shown
    written = json.loads((tmp_path / "out" / "profile.json").read_text())
    assert written["quick"] and set(written["attribution"]["remedies"]) >= {"seed", "ours"}
    assert len(list((tmp_path / "out").glob("*.steps.jsonl"))) == len(LADDER) + len(ALONE)


@pytest.mark.slow
def test_a_real_step_and_validation_are_profiled(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--quick", "--loader", "ours", "--model", "small", "--val-every", "1"]
    arguments += ["--out", str(out), "--cache", str(tmp_path / "cache")]
    assert profile_steps.main(arguments) == 0
    found = json.loads((out / "profile.json").read_text())["loaders"]["ours"]
    assert set(found["process_share"]) >= {"data", "forward", "loss", "backward", "optimizer"}
    assert found["validation_ms"] > 0
