import pytest

from mlfsic_bench.data.registry import open_dataset
from mlfsic_bench.errors import BenchError
from tests.fakes.coco import write_coco


def test_no_root_names_both_ways(monkeypatch):
    monkeypatch.delenv("MLFSIC_DATA", raising=False)
    with pytest.raises(BenchError, match="'voc' needs a data root") as caught:
        open_dataset("voc", None)
    assert "--data-root" in caught.value.expected
    assert "MLFSIC_DATA" in caught.value.expected


def test_root_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFSIC_DATA", str(write_coco(tmp_path)))
    assert open_dataset("coco", None).name == "coco"


def test_root_that_is_no_folder(tmp_path):
    with pytest.raises(BenchError, match="is not a folder"):
        open_dataset("coco", tmp_path / "nothing")


def test_unknown_name_gives_the_nearest():
    with pytest.raises(BenchError, match="unknown dataset 'cocoo'") as caught:
        open_dataset("cocoo", None)
    assert "'coco'" in caught.value.remedy


def test_scenes_need_no_root(monkeypatch):
    monkeypatch.delenv("MLFSIC_DATA", raising=False)
    assert open_dataset("scenes", None).name == "scenes"
