"""Reading experiment files and profiles: YAML, checked, with the nearest key in the error."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.experiments.schema import Experiment, Profile, Profiles
from mlfsic_bench.files import open_regular
from mlfsic_bench.schema import FileSchema, load
from mlfsic_bench.yaml_files import LIMIT, parse_yaml

PROFILES = "profiles"
PAGE = "docs/reproduce.md"
M = TypeVar("M", bound=FileSchema)


def experiment_names() -> tuple[str, ...]:
    """The names of the shipped experiments, sorted."""
    names = (entry.name for entry in files("mlfsic_experiments").iterdir())
    stems = sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))
    return tuple(stem for stem in stems if stem != PROFILES)


def read_experiment(name_or_path: str) -> tuple[str, Experiment]:
    """(name, experiment): a shipped one, or that of a file, which is called as the file.

    Raises BenchError for an unknown name and for a file that does not fit the schema.
    """
    if name_or_path in experiment_names():
        entry = files("mlfsic_experiments") / f"{name_or_path}.yaml"
        return name_or_path, _parse(entry.read_bytes(), f"the experiment {name_or_path}")
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        error = unknown_name("experiment", name_or_path, experiment_names())
        error.remedy += " (a file of your own ends in .yaml)"
        raise error
    return path.stem, _parse(_bytes(path), str(path))


def read_profiles() -> Profiles:
    """The shipped profiles."""
    data = (files("mlfsic_experiments") / f"{PROFILES}.yaml").read_bytes()
    return checked(load_yaml(data, "the profiles"), Profiles, "the profiles")


def find_profile(name: str) -> Profile:
    """The profile of that name; BenchError with the nearest one otherwise."""
    profiles = read_profiles().profiles
    if name not in profiles:
        raise unknown_name("dataset of a reproduction", name, profiles)
    return profiles[name]


@cache
def embeddings_names() -> tuple[str, ...]:
    """The names of label embeddings that some profile knows, sorted."""
    return tuple(
        sorted({name for one in read_profiles().profiles.values() for name in one.embeddings})
    )


def load_yaml(data: bytes, where: str) -> Any:
    """The value in `data`: plain YAML without aliases, duplicate keys or tags."""
    try:
        return parse_yaml(data)
    except ValueError as error:
        raise _bad(where, "plain YAML", str(error)) from error


def checked(value: Any, model: type[M], where: str) -> M:
    """`value` as a `model`; BenchError naming the first wrong key and the nearest known one."""
    return load(model, value, where, page=PAGE, remedy="copy the file that the page shows")


def _parse(data: bytes, where: str) -> Experiment:
    return checked(load_yaml(data, where), Experiment, where)


def _bytes(path: Path) -> bytes:
    try:
        with open_regular(path) as stream:
            data = stream.read(LIMIT + 1)
    except OSError as error:
        raise BenchError(
            f"there is no readable experiment file {path}",
            expected="a YAML file",
            found=error.strerror or str(error),
            remedy=f"check the path, or name one of: {', '.join(experiment_names())}",
        ) from error
    if len(data) > LIMIT:
        raise _bad(str(path), f"at most {LIMIT} bytes", "more")
    return data


def _bad(where: str, expected: str, found: str) -> BenchError:
    return BenchError(
        f"{where} can't be used as an experiment file",
        expected=expected,
        found=found,
        remedy=f"correct the file; {PAGE} shows a whole one",
    )
