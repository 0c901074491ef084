"""No shipped method's scores move without a new version of the method."""

from __future__ import annotations

import pytest
from pydantic import Field

from mlfsic_bench.methods.registry import find_method
from tests.golden.gate import Case, cases, facts_of, moved, read_stored

ARRAYS, FACTS = read_stored()


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
def test_scores_are_those_stored_for_this_version(case: Case) -> None:
    assert not moved(find_method(case.method), case.preset, ARRAYS, FACTS)


def test_nothing_is_stored_that_is_not_compared() -> None:
    assert set(ARRAYS) == {case.id for case in cases()}
    assert set(FACTS) == {case.method for case in cases()}


def test_a_changed_default_needs_a_new_version() -> None:
    protonet = find_method("protonet")

    class OtherParams(protonet.Params):  # type: ignore[name-defined,misc]
        scale: float = Field(10.0, gt=0, description="scale of the score")

    class Changed(protonet):  # type: ignore[valid-type,misc]
        Params = OtherParams

    problem = moved(Changed, None, ARRAYS, FACTS)
    assert "defaults of protonet changed (scale)" in problem
    assert "raise `version`" in problem
    Changed.version = protonet.version + 1
    assert "run `make golden`" in moved(Changed, None, ARRAYS, FACTS)


def test_changed_arithmetic_needs_a_new_version() -> None:
    protonet = find_method("protonet")

    class Changed(protonet):  # type: ignore[valid-type,misc]
        def adapt(self, support):  # type: ignore[no-untyped-def]
            predictor = super().adapt(support)
            return lambda query: predictor(query) * 1.01

        def adapt_all(self, supports):  # type: ignore[no-untyped-def]
            return [self.adapt(support) for support in supports]

    assert "scores of protonet moved by" in moved(Changed, None, ARRAYS, FACTS)


def test_an_edited_comment_is_no_change() -> None:
    class Same(find_method("protonet")):  # type: ignore[misc]
        """The same class from other source text."""

    assert facts_of(Same) == FACTS["protonet"]
    assert not moved(Same, None, ARRAYS, FACTS)
