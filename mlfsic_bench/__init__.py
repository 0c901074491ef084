"""mlfsic-bench: the place where multi-label few-shot image classification is measured.

From Python:

    import mlfsic_bench as mb

    split = mb.load_split("scenes-12-6-6-v1")
    results = mb.evaluate("protonet", split=split, backbone="scenes-small", seeds=[0])
    print(results.table())

The import itself loads nothing heavy: each name is imported when it is first used. docs/python.md
shows them all. The command line does the same by the same functions.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mlfsic_bench.version import __version__

if TYPE_CHECKING:
    from mlfsic_bench import metrics
    from mlfsic_bench.api.evaluating import evaluate
    from mlfsic_bench.api.loading import (
        EpisodeData,
        Features,
        LoadedSplit,
        iter_episodes,
        load_episodes,
        load_features,
        load_split,
    )
    from mlfsic_bench.api.results import Comparison, Results, compare, load_results
    from mlfsic_bench.api.writing import MethodCard, write_scores
    from mlfsic_bench.errors import BenchError
    from mlfsic_bench.features.backbones.objects import as_backbone
    from mlfsic_bench.features.training_options import Training
    from mlfsic_bench.methods.contract import Images, Method, MethodParams, Predictor, Support

__all__ = [
    "BenchError",
    "Comparison",
    "EpisodeData",
    "Features",
    "Images",
    "LoadedSplit",
    "Method",
    "MethodCard",
    "MethodParams",
    "Predictor",
    "Results",
    "Support",
    "Training",
    "__version__",
    "as_backbone",
    "compare",
    "evaluate",
    "iter_episodes",
    "load_episodes",
    "load_features",
    "load_results",
    "load_split",
    "metrics",
    "write_scores",
]

# module -> the public names that come from it
_FROM = {
    "mlfsic_bench.api.evaluating": "evaluate",
    "mlfsic_bench.api.loading": "EpisodeData Features LoadedSplit iter_episodes load_episodes "
    "load_features load_split",
    "mlfsic_bench.api.results": "Comparison Results compare load_results",
    "mlfsic_bench.api.writing": "MethodCard write_scores",
    "mlfsic_bench.errors": "BenchError",
    "mlfsic_bench.features.backbones.objects": "as_backbone",
    "mlfsic_bench.features.training_options": "Training",
    "mlfsic_bench.methods.contract": "Images Method MethodParams Predictor Support",
}
_MODULE = {name: module for module, names in _FROM.items() for name in names.split()}

if not TYPE_CHECKING:  # or every name would have every type

    def __getattr__(name: str) -> object:
        """Import what is asked for, once."""
        if name == "metrics":
            return import_module("mlfsic_bench.metrics")
        if name not in _MODULE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(_MODULE[name]), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        """The public names, also those that are not imported yet."""
        return sorted(__all__)
