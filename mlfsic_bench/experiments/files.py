"""Reading experiment files and profiles: YAML, checked, with the nearest key in the error."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from mlfsic_bench.errors import BenchError, nearest, unknown_name
from mlfsic_bench.experiments.schema import Experiment, Profile, Profiles, RowSpec, Schema
from mlfsic_bench.files import open_regular
from mlfsic_bench.yaml_files import LIMIT, parse_yaml

PROFILES = "profiles"
M = TypeVar("M", bound=Schema)


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
def words_names() -> tuple[str, ...]:
    """The names of label vectors that some profile knows, sorted."""
    return tuple(sorted({name for one in read_profiles().profiles.values() for name in one.words}))


def load_yaml(data: bytes, where: str) -> Any:
    """The value in `data`: plain YAML without aliases, duplicate keys or tags."""
    try:
        return parse_yaml(data)
    except ValueError as error:
        raise _bad(where, "plain YAML", str(error)) from error


def checked(value: Any, model: type[M], where: str) -> M:
    """`value` as a `model`; BenchError naming the first wrong key and the nearest known one."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # A key that is misspelt is also a key that is missing; the spelling says more.
        problems = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        first = problems[0]
        place = [str(part) for part in first["loc"]]
        found = (
            f"{'.'.join(place) or 'the file'}: {str(first['msg']).removeprefix('Value error, ')}"
        )
        if first["type"] == "extra_forbidden":
            close = nearest(place[-1], _known_beside(place, model))
            found = f"unknown key {'.'.join(place)!r}"
            found += f" (nearest known: {close!r})" if close else ""
        raise _bad(where, "the keys of docs/reproduce.md", found) from error


def _parse(data: bytes, where: str) -> Experiment:
    return checked(load_yaml(data, where), Experiment, where)


def _known_beside(place: list[str], model: type[Schema]) -> list[str]:
    if "rows" in place[:-1]:
        return list(RowSpec.model_fields)
    if model is Profiles and place[0] == "profiles" and len(place) == 3:
        return list(Profile.model_fields)
    return list(model.model_fields)


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
        remedy="correct the file; docs/reproduce.md shows a whole one",
    )
