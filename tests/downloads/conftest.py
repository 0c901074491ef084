"""A host on the loopback, and no waiting between tries."""

from collections.abc import Iterator

import pytest

from mlfsic_bench.downloads import transfer
from tests.downloads.hosts import Host, running


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("MLFSIC_MIRROR", raising=False)
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    with running() as one:
        yield one
