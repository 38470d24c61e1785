"""What find_package(convmin) reads: templates from cmake/, filled in for one build."""

from __future__ import annotations

import re
from pathlib import Path

from .config import ROOT, Config

PLACE = "share/cmake/convmin"  # in the package; find_package looks there below a prefix


def package_files(config: Config) -> dict[str, str]:
    """Names and texts."""
    torch = config.torch
    values = {
        "VERSION": config.version.split("+")[0],
        "TORCH_VERSION": torch.version,
        "TORCH_SERIES_PATTERN": "{}[.]{}".format(*torch.release),
        "TORCH_ROOT": str(torch.library_dir.parent),
        "CPP_FEATURE": torch.cpp_standard.replace("c++", "cxx_std_"),
    }
    templates = sorted((ROOT / "cmake").glob("*.cmake.in"))
    return {path.stem: _fill(path, values) for path in templates}


def _fill(path: Path, values: dict[str, str]) -> str:
    return re.sub(r"@([A-Z_]+)@", lambda match: values[match[1]], path.read_text())
