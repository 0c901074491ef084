"""One trained method for all tests that only read it."""

import pytest

from mlfsic_bench.methods.contract import FitContext
from tests.baselines.small_laso import TRAINED, block_part, method


@pytest.fixture(scope="session")
def trained_laso():
    laso = method(**TRAINED)
    laso.fit(block_part(150), None, FitContext(1))
    return laso
