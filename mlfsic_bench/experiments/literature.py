"""The published table that an experiment is set beside."""

from __future__ import annotations

from mlfsic_bench.errors import unknown_name
from mlfsic_bench.experiments.schema import Experiment
from mlfsic_bench.results.published import Published, published_names, read_published


def published_of(experiment: Experiment) -> Published | None:
    """The experiment's published table, or None where it names none.

    Raises BenchError when there is no such table, or no row that the experiment's rows name.
    """
    if experiment.published is not None and experiment.published not in published_names():
        raise unknown_name("published table", experiment.published, published_names())
    table = read_published(experiment.published) if experiment.published else None
    known = [row.name for row in table.rows] if table else []
    for row in experiment.rows:
        if row.published is not None and row.published not in known:
            raise unknown_name("published row", row.published, known)
    return table
