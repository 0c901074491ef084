"""What a name out of a file means: one of those that are known here, and nothing else.

Records, scores, entries and experiment files name methods, splits, backbones and weights. Such a
name never becomes a path, a module or an address, whatever it looks like: a file is opened only
where the user names it on the command line or in Python.
"""

from __future__ import annotations

from collections.abc import Collection

from mlfsic_bench.errors import BenchError, unknown_name


def known_method(name: str, option: str) -> str:
    """`name`, when a method is registered under it; BenchError naming the `option` otherwise."""
    from mlfsic_bench.methods.registry import method_names
    from mlfsic_bench.plugins.files import names_a_file

    registered = [one for one in method_names() if not names_a_file(one)]
    return _known("method", name, registered, option)


def known_split(split_id: str, option: str = "") -> str:
    """The plain id of a shipped split; BenchError naming the `option` where none has it."""
    from mlfsic_bench.splits.names import plain_id, shipped_ids

    return _known("split", plain_id(split_id), shipped_ids(), option)


def known_backbone(name: str, option: str = "") -> str:
    """`name`, when it is a network or several joined by +; BenchError naming the `option` else."""
    from mlfsic_bench.features.backbones.registry import known_spec

    try:
        return known_spec(name)
    except BenchError as error:
        error.remedy += _hint(option)
        raise


def known_weights(name: str, option: str) -> str:
    """`name`, when it is one of the weights' names, or several joined by +.

    BenchError naming the `option` otherwise, also for the name of a file.
    """
    from mlfsic_bench.features.backbones.registry import JOIN, KEYWORDS

    for one in name.split(JOIN):
        _known("weights", one, KEYWORDS, option)
    return name


def _known(kind: str, name: str, known: Collection[str], option: str = "") -> str:
    if name not in known:
        error = unknown_name(f"{kind} in a file", name, known)
        error.remedy += _hint(option)
        raise error
    return name


def _hint(option: str) -> str:
    return f"; a file of your own is named by the option {option}" if option else ""
