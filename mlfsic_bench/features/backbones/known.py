"""Networks whose features are stored already: what is known of them, without building them.

To name a store takes a network's shape and the hash of its weights. To get these from the network
itself its library is imported, its layers are made and all its weights are read: seconds, for a run
whose features are all there. So they are kept (`kept`) while the files that they came from stay as
they are, and the network is built when something is to be computed with it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.registry import build_backbones, is_own, split_name
from mlfsic_bench.kept_answers import keep, recall
from mlfsic_bench.paths import Places, watched

if TYPE_CHECKING:
    from mlfsic_bench.features.backbones.base import Backbone

KIND = "networks"  # the folder in the user's cache folder
TEXTS = ("name", "vector", "transform_id", "weights_hash")
NUMBERS = ("channels", "dim")


class KnownBackbone:
    """What a manifest says of a Backbone, under the same names; `built` is the network itself."""

    def __init__(self, said: dict[str, Any], spec: str, weights: str, place: int) -> None:
        for name, kind in (*((n, str) for n in TEXTS), *((n, int) for n in NUMBERS)):
            if type(said[name]) is not kind:
                raise TypeError(name)
            setattr(self, name, said[name])
        height, width = said["grid"]
        self.grid = (int(height), int(width))
        self._made_by = spec, weights, place

    def require_unchanged(self) -> None:
        """Nothing has been computed with it that could have changed it."""

    def built(self) -> Backbone:
        """The network; BenchError where its weights are no longer those that are known."""
        spec, weights, place = self._made_by
        made = build_backbones(spec, weights)[place]
        known = cast(Any, self).weights_hash
        if made.weights_hash != known:
            raise BenchError(
                f"the weights of the backbone {made.name!r} are not those that were read before",
                expected=f"weights with hash {known[:12]}",
                found=f"hash {made.weights_hash[:12]}",
                remedy="give the same command again, once nobody writes to the file of the weights",
            )
        return made


def known_backbones(spec: str, weights: str) -> tuple[Backbone, ...]:
    """The networks that `spec` names, for stored features: as known, or built where nothing is.

    Raises what `build_backbones` raises. What they have is what a manifest takes, and `built`.
    """
    own, question = is_own(spec), [spec, weights]
    said = recall(KIND, question) if own else None
    try:
        if said is not None and len(said) == len(split_name(spec)):
            found = [KnownBackbone(one, spec, weights, i) for i, one in enumerate(said)]
            return cast("tuple[Backbone, ...]", tuple(found))
    except (KeyError, TypeError, ValueError):  # as if nothing were known
        pass
    places: Places = {}
    since = time.time_ns()
    with watched(places):
        made = build_backbones(spec, weights)
    if own:
        names = (*TEXTS, *NUMBERS, "grid")
        value = [{name: getattr(one, name) for name in names} for one in made]
        keep(KIND, question, value, places, since)
    return made
