"""Random problems of every kind break no bound. With another seed or number: `python tests/random_problems.py`."""

from __future__ import annotations

import pytest
from random_problems import run

COUNT = {"cpu": 150, "cuda": 2000}
# Larger problems where the oracle is fast. 2,000 of them take about a minute on an H200.
MAX_PRODUCTS = {"cpu": 1_000_000, "cuda": 20_000_000}


def test_random_problems(device: str) -> None:
    """A combination of shape, layout, dtype and numbers that no other test has."""
    failures, kinds = run(COUNT[device], device, 0, None, MAX_PRODUCTS[device])
    assert not failures, "\n".join(failures[:5])
    assert kinds["refused"] == 0, "the planner's own choice takes everything"
    assert len(kinds) > 25, "some kind of layout or number was never drawn"


def test_failures_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run over a broken operator does not pass."""
    monkeypatch.setattr("convmin.conv2d_scale_min_with_indices", _broken)
    failures, _ = run(20, "cpu", 0, None, 100_000)
    assert failures


def _broken(x, weight, bias, scale, **kwargs):  # type: ignore[no-untyped-def]
    from support import eager

    values, indices = eager(x, weight.flip(3), bias, scale, **kwargs)
    return values, indices
