"""Settings for all tests: no deadline for a hypothesis example, since machines differ in speed."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("mlfsic", deadline=None)
settings.load_profile("mlfsic")


@pytest.fixture(scope="session", autouse=True)
def short_audits() -> Iterator[None]:
    """Runs of tests are audited as others are, in as few episodes and queries as may be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlfsic_bench.harness.audit.LEAST", 0.0)
        yield
