"""The documentation's examples run, and what it lists exists."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import convmin
import pytest
import torch
from support import run_python

ROOT = Path(__file__).resolve().parents[1]
MODULES = ["convmin", *(f"convmin.{path.stem}" for path in sorted(Path(convmin.__path__[0]).glob("[!_]*.py")))]
MODULES += ["convmin._decompositions"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    """Each in a process that has imported torch and convmin."""
    torch.manual_seed(0)
    module = importlib.import_module(name)
    results = doctest.testmod(module, extraglobs={"torch": torch, "convmin": convmin}, optionflags=doctest.ELLIPSIS)
    assert results.failed == 0


def test_everything_public_has_an_example() -> None:
    """A docstring, with an example wherever there is something to call."""
    for name in convmin.__all__:
        thing = getattr(convmin, name)
        if not callable(thing) or name in ("FusionSite", "DeviceProperties", "Explanation", "FusionReport"):
            continue
        assert thing.__doc__, name
        undemonstrable = ("include_dir", "library_dir", "disable_inductor_fusion")
        assert ">>>" in thing.__doc__ or name in undemonstrable, name


def test_the_matrix_names_tests_that_exist() -> None:
    """docs/compatibility.md: each feature with the test that holds it."""
    text = (ROOT / "docs" / "compatibility.md").read_text()
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", text)
    assert len(named) > 20
    for file, function in named:
        path = ROOT / "tests" / file
        assert path.is_file(), file
        assert not function or f"def {function}(" in path.read_text(), f"{file}::{function}"


def test_the_reference_is_generated(tmp_path: Path) -> None:
    """`make docs`: every public name is on the page, and the tables of semantics and compatibility."""
    pytest.importorskip("pdoc")
    finished = run_python("-W", "error::UserWarning:pdoc", "-m", "pdoc", "-d", "google", "-o", str(tmp_path), "convmin")
    assert finished.returncode == 0, finished.stderr
    page = (tmp_path / "convmin.html").read_text()
    for name in convmin.__all__:
        assert f'id="{name}"' in page or name == "reference", name
    assert "What the operators compute" in page and "What works with what" in page
    assert (tmp_path / "convmin" / "reference.html").is_file()
