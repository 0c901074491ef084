"""Libraries of extras, and calls into them that open no connection."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlfsic_bench.errors import BenchError

_THREAD = threading.local()
_LOCK = threading.Lock()
_OPEN = [0]  # blocks, in all threads
_BEFORE: dict[str, str | None] = {}  # the environment before the first of them
_HUB = [False]  # and the flag of huggingface_hub
_HOOKED: list[bool] = []
_FLAGS = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def not_installed(package: str, extra: str, found: str) -> BenchError:
    """The error for a package that comes with an extra of this one."""
    return BenchError(
        f"{package} is not installed",
        expected=f"the packages of the extra [{extra}]",
        found=found,
        remedy=f"pip install 'mlfsic-bench[{extra}]'",
    )


@contextmanager
def transformers_offline(extra: str) -> Iterator[Any]:
    """The library transformers, without a connection, bars and notes while the block runs.

    BenchError that names the extra where it, or safetensors, is not installed.
    """
    with offline():
        try:
            import safetensors.torch  # noqa: F401
            import transformers
        except ImportError as error:
            raise not_installed("transformers", extra, str(error)) from error
        log: Any = transformers.utils.logging
        level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
        log.set_verbosity_error()
        log.disable_progress_bar()
        try:
            yield transformers
        finally:
            log.set_verbosity(level)
            if bars:
                log.enable_progress_bar()


@contextmanager
def offline() -> Iterator[None]:
    """While the block runs, no connection is opened in this thread.

    The libraries are told so by their own flags, and then look into their caches only. What tries
    all the same (`torch.hub`, `urllib`) gets an OSError from an audit hook.
    """
    if not _HOOKED:
        sys.addaudithook(_refuse_connections)  # can't be removed again, so it asks _THREAD
        _HOOKED.append(True)
    _THREAD.depth = getattr(_THREAD, "depth", 0) + 1
    with _LOCK:
        _OPEN[0] += 1
        flag = _hub_flag(True)
        if _OPEN[0] == 1:
            _HUB[0] = flag
            _BEFORE.update({name: os.environ.get(name) for name in _FLAGS})
            os.environ.update(_FLAGS)
    try:
        yield
    finally:
        _THREAD.depth -= 1
        with _LOCK:
            _OPEN[0] -= 1
            if not _OPEN[0]:
                _hub_flag(_HUB[0])
                for name, value in _BEFORE.items():
                    os.environ.pop(name, None)
                    if value is not None:
                        os.environ[name] = value


def _hub_flag(value: bool) -> bool:
    """Set the flag that huggingface_hub reads from the environment when it is imported."""
    constants: Any = sys.modules.get("huggingface_hub.constants")
    before = bool(getattr(constants, "HF_HUB_OFFLINE", False))
    if constants is not None:
        constants.HF_HUB_OFFLINE = value
    return before


def _refuse_connections(event: str, args: tuple[Any, ...]) -> None:
    if event not in ("socket.connect", "socket.getaddrinfo") or not getattr(_THREAD, "depth", 0):
        return
    if event == "socket.connect" and isinstance(args[1], str | bytes):
        return  # a socket of this machine's file system
    raise OSError("no connection is opened while a model is read; nothing is downloaded")
