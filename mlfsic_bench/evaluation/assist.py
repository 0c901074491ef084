"""The part of a run that every process but the first does, where torchrun started several.

Process 0 makes the run (`runner`) and orders what is to be shared: a fit, where the method is
trained by all together, and the evaluation. Whatever process 0 does alone, the others wait for, and
help with the features that it extracts meanwhile.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlfsic_bench import distributed
from mlfsic_bench.evaluation.fit import FIT, fit_method, load_method
from mlfsic_bench.evaluation.predict import evaluate_chunks
from mlfsic_bench.evaluation.record import PARTS
from mlfsic_bench.features.sharing import wanted_now

if TYPE_CHECKING:
    from mlfsic_bench.evaluation.inputs import Inputs

EVALUATE = "evaluate"


def assist(inputs: Inputs, folder: Path, key: str) -> None:
    """Do what process 0 orders for the run with this key in `folder`, until it has ended."""
    folder = folder.absolute()  # a method may change the working folder
    episodes = inputs.episodes.episodes[: inputs.count]
    wanted = sorted({i for e in episodes for i in (*e.support, *e.query)})

    def help_extracting() -> None:
        ids = wanted_now()
        if ids:  # asking for a feature makes this process take part in making them all
            inputs.open_source(ids, (), _unheard).pooled(ids[:1])

    for order in distributed.follow(help_extracting):
        if order == FIT:
            fit_method(inputs, None, _unheard)
        elif order == EVALUATE:
            with distributed.reported():
                method, source = load_method(inputs, wanted, folder, key, _unheard)
                view = inputs.scored(source)
                evaluate_chunks(method, view, episodes, folder / PARTS, key, _unheard)


def _unheard(line: str) -> None:
    """Process 0 says how far the work is."""
