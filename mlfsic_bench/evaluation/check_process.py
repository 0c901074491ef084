"""`methods check` in a process of its own: whatever ends that process early is a failed test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import IO

from mlfsic_bench.errors import BenchError
from mlfsic_bench.testing.fresh import FreshProcess, command, ending
from mlfsic_bench.testing.result import CheckResult


@dataclass(frozen=True)
class CheckJob:
    """What is checked: as `make_method` takes it; and the seconds of a test."""

    spec: str
    settings: dict[str, str]
    preset: str | None
    timeout_s: float


@dataclass(frozen=True)
class Checked:
    """The name of the method, and the settings it is checked with."""

    name: str
    settings: dict[str, str]


def check_in_process(job: CheckJob) -> Iterator[Checked | CheckResult]:
    """What is checked, then the result of each test as it comes.

    Raises BenchError when the method can't be loaded. Should the process end before all tests
    were made (`os._exit`, a crash), that is the last result, a failure.
    """
    child = subprocess.Popen(
        command("mlfsic_bench.evaluation.check_process"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    last = "the method was loaded"
    try:
        child.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        child.stdin.close()
        for line in child.stdout:
            message = json.loads(line)
            if "error" in message:
                raise BenchError(**message["error"])
            if "end" in message:
                return
            if "name" in message:
                yield Checked(**message)
                continue
            result = message["result"]
            last = f"the test `{result['name']}`"
            pairs = tuple((heading, text) for heading, text in result.pop("explanation"))
            yield CheckResult(**result, explanation=pairs)
        how = ending(child.wait())
        yield CheckResult(
            "end",
            "the process lives until all tests are made",
            "fail",
            (
                ("done", f"All tests were run in a process of their own; it ended after {last}."),
                ("expected", "a result for each test"),
                ("came", f"the process ended with {how}"),
                ("likely cause", "a call that ends the program, or a crash in a library"),
                ("remedy", "raise an exception instead; look at what the method printed last"),
            ),
        )
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def main() -> None:
    """Read one job, and write a line of JSON for each message of `check_in_process`."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    job = CheckJob(**json.loads(sys.stdin.readline()))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a method prints is not a message
    # started first, for it imports while this process does
    fresh = FreshProcess()
    try:
        _check(job, fresh, out)
    except BenchError as error:
        kept = {name: getattr(error, name) for name in ("what", "expected", "found", "remedy")}
        _send(out, {"error": kept})
    finally:
        fresh.end()


def _check(job: CheckJob, fresh: FreshProcess, out: IO[str]) -> None:
    from mlfsic_bench.evaluation.checked import mark_passed
    from mlfsic_bench.methods.params import small_settings
    from mlfsic_bench.methods.registry import find_method, make_method
    from mlfsic_bench.testing.check import check_method

    method = find_method(job.spec)
    chosen = small_settings(method, job.settings, job.preset)
    make_method(job.spec, chosen, job.preset)
    _send(out, {"name": method.name, "settings": chosen})
    passed = True
    fresh.names(job.spec, chosen, job.preset)
    results = check_method(
        lambda: make_method(job.spec, chosen, job.preset), timeout_s=job.timeout_s, fresh=fresh
    )
    for result in results:
        passed = passed and result.status in ("pass", "warn")
        _send(out, {"result": asdict(result)})
    if passed:
        mark_passed(job.spec, method, chosen)
    _send(out, {"end": True})


def _send(out: IO[str], message: Mapping[str, object]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()
