"""What `--set name=value` says, as text; light, so that the command line needs no torch for it."""

from __future__ import annotations

from collections.abc import Iterable

from mlfsic_bench.errors import BenchError


def parse_settings(pairs: Iterable[str]) -> dict[str, str]:
    """`["lr=0.01", "heads=8"]` as `{"lr": "0.01", "heads": "8"}`; BenchError when malformed."""
    settings: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise BenchError(
                f"--set {pair} can't be read",
                expected="name=value, each name once",
                found=repr(pair),
                remedy="write for example --set epochs=40",
            )
        if key in settings:
            raise BenchError(
                f"the parameter {key!r} is set twice",
                expected="each parameter set once",
                found=f"{key}={settings[key]} and {pair}",
                remedy="remove one of the two",
            )
        settings[key] = value.strip()
    return settings
