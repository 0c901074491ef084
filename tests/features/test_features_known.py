"""A network whose features are stored is not built, as long as its files stay as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones import known
from mlfsic_bench.features.backbones.known import known_backbones
from mlfsic_bench.features.backbones.registry import build_backbone
from mlfsic_bench.features.backbones.scenes import variant
from mlfsic_bench.features.sources import describe
from mlfsic_bench.features.store.manifest import manifest_of
from mlfsic_bench.paths import Places, watched


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path / "cache"))
    network = variant("scenes-small").network()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    return tmp_path / "w.pt"


def test_what_is_known_is_what_was_built(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = f"{weights}+default"
    built = known_backbones("scenes-small+scenes-patch", asked)
    build = known.build_backbones
    monkeypatch.setattr(known, "build_backbones", None)  # to build would be an error
    places: Places = {}
    with watched(places):
        again = known_backbones("scenes-small+scenes-patch", asked)
    assert describe(again) == describe(built)
    for one, other in zip(again, built, strict=True):
        assert manifest_of("scenes", one, "fp32") == manifest_of("scenes", other, "fp32")
    assert str(weights) in places  # whoever watches hears of it all the same
    monkeypatch.setattr(known, "build_backbones", build)
    whole = again[1].built()
    assert (whole.weights_hash, whole.built()) == (built[1].weights_hash, whole)


def test_other_weights_are_read(weights: Path) -> None:
    (first,) = known_backbones("scenes-small", str(weights))
    torch.manual_seed(1)
    torch.save(variant("scenes-small").network().state_dict(), weights)
    (second,) = known_backbones("scenes-small", str(weights))
    expected = build_backbone("scenes-small", str(weights)).weights_hash
    assert first.weights_hash != second.weights_hash == expected


def test_weights_that_changed_since_are_not_taken_for_those_that_are_known(weights: Path) -> None:
    known_backbones("scenes-small", str(weights))
    (found,) = known_backbones("scenes-small", str(weights))
    torch.manual_seed(2)
    torch.save(variant("scenes-small").network().state_dict(), weights)
    with pytest.raises(BenchError, match="are not those that were read before"):
        found.built()


@pytest.mark.parametrize("content", ["", "[]", '{"value": [{"name": 1}]}'])
def test_a_damaged_note_is_as_none(weights: Path, content: str, tmp_path: Path) -> None:
    (first,) = known_backbones("scenes-small", str(weights))
    (place,) = (tmp_path / "cache" / known.KIND).iterdir()
    place.write_text(content)
    (second,) = known_backbones("scenes-small", str(weights))
    assert second.weights_hash == first.weights_hash
