"""Each faulty plug-in fails exactly its contract test; good ones pass all."""

import random
import threading

import numpy as np
import pytest
import torch

from mlfsic_bench.methods.registry import find_method, make_method, method_names
from mlfsic_bench.testing.check import ALL_CHECKS, check_method
from tests.fakes.plugins.faulty import FAULTS
from tests.fakes.plugins.faulty_scores import DecidesByBatch, QueryBatch, QueryOrder
from tests.fakes.plugins.faulty_state import GlobalRng
from tests.fakes.plugins.faulty_training import Trained
from tests.fakes.plugins.minimal import Minimal
from tests.fakes.plugins.never_scoring import Hangs, Raises
from tests.plugins_corpus.answers import SEEN
from tests.plugins_corpus.changes import TESTS

pytestmark = pytest.mark.slow

VARIANTS = [
    *((name, find_method(name).check_settings) for name in method_names()),
    ("linear", {"head_init": "base_mean", "epochs": "2"}),
    ("linear", {"head_init": "zero"}),
    ("protonet", {"score": "cosine"}),
    ("protonet", {"centre": "support"}),
    ("lc-protonets", {"projection": "5", "steps": "4", "select_every": "2"}),
    ("contrastive-prototypes", {"centre": "support"}),
]


def outcome(make):
    results = list(check_method(make))
    return {
        status: {r.name for r in results if r.status == status}
        for status in ("pass", "fail", "skip")
    }, {r.name: dict(r.explanation) for r in results}


@pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=str)
def test_shipped_methods_pass(name, settings):
    statuses, explanations = outcome(lambda: make_method(name, settings, None))
    assert statuses["fail"] | statuses["skip"] == set(), explanations
    assert len(statuses["pass"]) == len(ALL_CHECKS)


@pytest.mark.parametrize("method", [Minimal, Trained])
def test_a_good_plugin_passes(method):
    statuses, explanations = outcome(method)
    assert statuses["pass"] == {check.name for check in ALL_CHECKS}, explanations


def transductive(method):
    return type(method.__name__, (method,), {"transductive": True})


@pytest.mark.parametrize(
    ("method", "status"),
    [
        (QueryBatch, {}),
        (DecidesByBatch, {}),
        (QueryOrder, {"query-order": "fail", "query-independence": "warn"}),
        (Minimal, {"query-independence": "warn"}),
    ],
    ids=str,
)
def test_a_transductive_method_may_look_at_the_query_and_not_at_its_order(method, status):
    results = {result.name: result.status for result in check_method(transductive(method))}
    assert {name: found for name, found in results.items() if found != "pass"} == status


@pytest.mark.parametrize("method", FAULTS, ids=lambda m: m.name)
def test_a_fault_fails_its_test_and_no_other(method):
    failing, blocked = FAULTS[method]
    statuses, explanations = outcome(method)
    assert statuses["fail"] == failing, explanations
    assert statuses["skip"] == blocked, explanations
    for name in failing:
        assert {"done", "expected", "came", "remedy"} <= set(explanations[name])
        assert all(explanations[name].values())


def test_every_contract_test_has_a_fault_that_it_sees():
    seen = set().union(*(failing for failing, _ in FAULTS.values()))
    seen |= {name for name, _ in SEEN.values()} | set(TESTS.values())
    assert seen == {check.name for check in ALL_CHECKS}


def test_a_plugin_that_raises_fails_test_by_test():
    statuses, explanations = outcome(Raises)
    assert statuses["pass"] == {"state", "presets"}
    assert statuses["skip"] == set()
    assert "the plug-in's own words" in explanations["scores"]["came"]
    assert "raise ZeroDivisionError" in explanations["adapt-order"]["traceback"]


def test_a_plugin_that_hangs_is_reported_and_not_waited_for():
    try:
        results = list(check_method(Hangs, timeout_s=0.3))
    finally:
        Hangs.release.set()
        for thread in threading.enumerate():
            if thread.name.startswith("contract test"):
                thread.join()
    assert results[0].status == "fail"
    assert "0.3 s" in dict(results[0].explanation)["expected"]
    assert {r.status for r in results[1:]} == {"skip"}


def test_checking_leaves_global_randomness_alone():
    before = (random.getstate(), np.random.get_state(), torch.get_rng_state())  # noqa: NPY002
    list(check_method(GlobalRng))
    after = (random.getstate(), np.random.get_state(), torch.get_rng_state())  # noqa: NPY002
    assert before[0] == after[0]
    assert np.array_equal(before[1][1], after[1][1])
    assert torch.equal(before[2], after[2])


def test_results_come_in_the_same_order_with_one_sentence_each():
    results = list(check_method(Minimal))
    assert [r.name for r in results] == [check.name for check in ALL_CHECKS]
    assert all(r.shows for r in results)
