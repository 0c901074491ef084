"""Run many commands in this one process: `python many_calls.py`, a JSON list of them on stdin.

Prints a JSON list of [exit code, standard output, standard error], one for each. A traceback is
exit code None with the traceback as the error.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mlfsic_bench.cli.main import main


def call(args: list[str]) -> tuple[int | None, str, str]:
    """(exit code, output, error) of one command."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(args)
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            code = None
            traceback.print_exc()
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    done = [call(args) for args in json.load(sys.stdin)]
    json.dump(done, sys.stdout)
