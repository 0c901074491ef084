"""Plug-ins that change something of the process while they adapt."""

import locale
import os
import random
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

from mlfsic_bench.plugins.surroundings import RANDOM
from tests.fakes.plugins.minimal import Minimal

KEPT = []  # modes that are entered and not left


def changing(label, change):
    """A good method but for `change()`, called in adapt."""

    def adapt(self, support):
        predictor = Minimal.adapt(self, support)
        change()
        return predictor

    # with gradients: without, inference mode holds, and leaving it undoes some changes by itself
    members = {"name": label.lower(), "adapt": adapt, "adapts_by_gradient": True}
    return type(label, (Minimal,), members)


def enter(mode):
    mode.__enter__()
    KEPT.append(mode)


def signals():
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_IGN)


def other_folder():
    os.chdir(Path.cwd().parent)


def other_variable():
    os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "") + "7"


def other_locale():
    kept = locale.setlocale(locale.LC_ALL)
    locale.setlocale(locale.LC_ALL, "C.UTF-8" if kept == "C" else "C")


# what is changed, as `surroundings` names it -> how
CHANGES = {
    "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch's default device": lambda: torch.set_default_device("meta"),
    "inference mode": lambda: enter(torch.inference_mode()),
    "grad mode": lambda: torch.set_grad_enabled(not torch.is_grad_enabled()),
    "autocast": lambda: enter(torch.autocast("cpu")),
    "deterministic algorithms": lambda: torch.set_deterministic_debug_mode(1),
    "cudnn's benchmark flag": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "precision of matrix products": lambda: torch.set_float32_matmul_precision("medium"),
    "torch's number of threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "numpy's error handling": lambda: np.seterr(over="raise"),
    "warning filters": lambda: warnings.simplefilter("error", ImportWarning),
    "the working folder": other_folder,
    "environment variables": other_variable,
    "the locale": other_locale,
    "signal handlers": signals,
    "sys.stdout": lambda: setattr(sys, "stdout", sys.__stderr__),
    "the recursion limit": lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 1),
    "random": lambda: random.seed(1),
    "numpy.random": lambda: np.random.seed(1),  # noqa: NPY002
    "torch.random": lambda: torch.manual_seed(1),
}
CHANGING = {
    name: changing("".join(word.title() for word in name.split()), change)
    for name, change in CHANGES.items()
}
TESTS = {name: "global-rng" if name in RANDOM else "global-state" for name in CHANGES}
