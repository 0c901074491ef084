"""One tiny COCO on disk for the whole room."""

from pathlib import Path

import pytest

from mlfsic_bench.data.coco import Coco
from mlfsic_bench.splits.build import build_file
from mlfsic_bench.splits.files import to_split
from mlfsic_bench.splits.split import Split
from tests.fakes.laso_world import DEFINITION, laso_root


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return laso_root(tmp_path_factory.mktemp("laso"))


@pytest.fixture(scope="session")
def split(root: Path) -> Split:
    return to_split(build_file(DEFINITION, Coco(root)))
