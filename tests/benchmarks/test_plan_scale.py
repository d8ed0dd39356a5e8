"""What a million clips cost is measured, drawn and told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import plan_scale
from benchmarks.result import RESULTS
from data_tools.split_index import index_paths
from trainer.data.dataset import Dataset


@pytest.mark.slow
def test_the_curves_are_measured_and_drawn(tmp_path: Path) -> None:
    file = tmp_path / "plan_scale.json"
    arguments = ["--quick", "--cache", str(tmp_path / "c"), "--json", str(file)]
    assert plan_scale.main(arguments) == 0
    curves = json.loads(file.read_text())["curves"]
    assert {name: [point["x"] for point in points] for name, points in curves.items()} == {
        name: [1000] for name in ("plan", "first_open", "open", "keep")
    }
    assert curves["open"][0]["clips"] == 1056 and curves["open"][0]["frames"] == 211_200
    assert curves["open"][0]["index_bytes"] > 8 * 211_200
    assert curves["keep"][0]["used"] == 1056
    assert all(point["seconds"] > 0 < point["peak_mb"] for (point,) in curves.values())
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "c" / "plan-scale" / "never-made").exists()


def test_the_linked_shards_are_whole_and_the_tree_is_made_once(tmp_path: Path) -> None:
    folder = plan_scale.shards(tmp_path, 200)
    dataset = Dataset(folder, "train")
    assert len(dataset) == 3 * plan_scale.CLIPS and set(dataset.frames) == {plan_scale.FRAMES}
    assert plan_scale.shards(tmp_path, 200) == folder and index_paths(folder, "train")
    (tmp_path / "tiny.mp4").write_bytes(b"a video")
    tree = plan_scale.tree(tmp_path, 170)
    files = sorted(str(path.relative_to(tree)) for path in tree.rglob("*.mp4"))
    assert len(files) == 170 and files[0] == "dev/mp4/id00000/00000000000/00000.mp4"
    assert files[-1] == "dev/mp4/id00001/00000000001/00001.mp4"
    (tree / files[0]).unlink()
    assert not (plan_scale.tree(tmp_path, 170) / files[0]).exists()


def test_curves_are_drawn_again_from_their_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "plan_scale.json"
    file.write_bytes((RESULTS / "plan_scale.json").read_bytes())
    assert plan_scale.main(["--from", str(file)]) == 0
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    file.write_text("[]")
    assert plan_scale.main(["--from", str(file)]) == 2
    assert "is no result of plan_scale" in capsys.readouterr().err
    assert plan_scale.main(["--clips", "0"]) == 2
