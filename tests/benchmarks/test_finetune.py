"""The benchmark of tuning, small and whole; what it learns from and what it says."""

import json
from pathlib import Path

import pytest

from benchmarks import finetune
from data_tools.keep import read_keep
from data_tools.packing import pack
from data_tools.plan import PackOptions


def test_one_clip_in_so_many_is_kept(shards_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "keep.csv"
    kept = finetune.write_share(shards_folder, 3, path)
    rows = read_keep(path)
    assert kept == sum(row.used for row in rows.values()) == -(-len(rows) // 3)
    assert [row.used for _, row in sorted(rows.items())][:4] == [True, False, False, True]


def test_it_works_from_given_weights_and_says_what_it_found(
    clips_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own, out = tmp_path / "data" / "grid_s1", tmp_path / "found.json"
    pack(clips_folder, own, PackOptions(ratios=(60, 20, 20), gray=True))
    argv = ["--data", str(tmp_path / "data"), "--work", str(tmp_path / "work"), "--quick"]
    assert finetune.main([*argv, "--json", str(out)]) == 2  # there is no lrw_ar to start from
    assert "lrw_ar holds no shards" in capfd.readouterr().err
    given = ["--init", "mouth", "--share", "1", "--json", str(out)]
    assert finetune.main([*argv, *given]) == 0, capfd.readouterr().err
    found = json.loads(out.read_text())
    networks = found["networks"]
    assert set(networks) == {"not tuned", *finetune.VARIANTS}
    assert len({one["steps"] for name in finetune.VARIANTS for one in networks[name]}) == 1
    shown = finetune.readme(found)
    assert "begun at random, seed 0" in shown and "given by --init" in shown
