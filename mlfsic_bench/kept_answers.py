"""What was found out once, kept in the user's cache folder while nothing it came from changes.

A value is kept with what was asked, the state of the code, and that of every file and folder that
was looked at to find it out (`paths.watched`, `paths.state_of_place`). Where any of these is
another, or what is kept can't be read, it is found out again. A cache folder that can't be used is
no error. Importing this module imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import make_folder, read_json, write_json
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.paths import Places, default_cache, note, state_of_place, states_below

MOST_PLACES = 20_000  # that are kept of a value; one that more were looked at for is not kept
PACKAGES = ("mlfsic_bench", "mlfsic_baselines", "mlfsic_splits")
CODE = (".py", ".json", ".npz")  # what of our packages a value depends on
# of the environment; they say where data, weights and caches lie
VARIABLES = ("MLFSIC_", "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TORCH_", "XDG_", "HOME", "PYTHON")


def recall(kind: str, question: Any) -> Any:
    """The JSON value that was kept as the answer; None where none holds.

    Parameters
    ----------
    kind: a folder of the cache folder.
    question: all that was asked, as JSON; what JSON can't hold has no answer.
    """
    with contextlib.suppress(BenchError, OSError, ValueError, KeyError, TypeError):
        asked = _asked(question)
        kept = read_json(_place(kind, asked), kind="note in the cache folder")
        if kept["asked"] != asked or kept["code"] != _code():
            return None
        if all(state_of_place(path, listed)[0] == state for path, listed, state in kept["places"]):
            for path, listed, _ in kept["places"]:
                note(path, listed)
            return kept["value"]
    return None


def keep(
    kind: str, question: Any, value: Any, places: Places, since: int, made: Iterable[Path] = ()
) -> None:
    """Keep `value` as the answer to `question`; not where it may be of files as they were before.

    Parameters
    ----------
    places: what was looked at. What lies in the cache folder itself does not count: it is made of
        files that are looked at, and checked when it is read.
    since: when looking began, in ns: a place that changed later may have been read before.
    made: files that belong to the value, as they are now.
    """
    with contextlib.suppress(BenchError, OSError, ValueError, TypeError):
        asked, cache = _asked(question), os.path.join(_text(default_cache()), "")  # noqa: PTH118
        kept = [(p, listed) for p, listed in sorted(places.items()) if not p.startswith(cache)]
        if len(kept) > MOST_PLACES:
            return
        states: list[list[Any]] = []
        for path, listed in kept:
            state, newest = state_of_place(path, listed)
            if newest >= since:
                return
            states.append([path, listed, state])
        states += [[path, False, state_of_place(path)[0]] for path in map(_text, made)]
        content = {"asked": asked, "code": _code(), "places": states, "value": value}
        place = _place(kind, asked)
        make_folder(place.parent)
        write_json(place, content)


def _asked(question: Any) -> Any:
    """What was asked, with what decides how it is read, as JSON; TypeError where that can't be."""
    # as a hash: the environment may hold secrets
    environment = hash_json({k: v for k, v in os.environ.items() if k.startswith(VARIABLES)})
    return json.loads(json.dumps([question, environment, str(Path.cwd()), sys.version]))


def _place(kind: str, asked: Any) -> Path:
    return default_cache() / kind / f"{hash_json(asked)}.json"


def _code() -> str:
    """What stands for the code that runs: our packages' files, what is installed beside them."""
    found: list[object] = []
    for name in PACKAGES:
        spec = find_spec(name)
        for folder in (spec and spec.submodule_search_locations) or ():
            found.append(states_below(folder, CODE))
    # pip writes into these whenever it installs something
    installed = [path for path in sys.path if path.endswith("-packages")]
    return hash_json([found, [os.stat(path).st_mtime_ns for path in installed]])  # noqa: PTH116


def _text(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - as `paths.note` writes it
