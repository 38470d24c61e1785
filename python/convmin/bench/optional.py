"""Packages that make the benchmark richer and that it does without: matplotlib, tqdm, triton, cudnn's front end."""

from __future__ import annotations

import importlib
from typing import Any


def module(name: str) -> Any | None:
    """The module, or None where it is missing or does not load.

    Example:
        >>> module("no_such_module") is None
        True
    """
    try:
        return importlib.import_module(name)
    except Exception:  # one that is there but broken is as good as missing
        return None
