"""Finds and loads the operator library."""

from pathlib import Path

import torch

_PACKAGE = Path(__file__).resolve().parent

try:
    from convmin import _C
except ImportError as error:
    raise ImportError(
        f"convmin's compiled part can't be imported from {_PACKAGE}: {error}. Build it with "
        "'pip install --no-build-isolation .' or, in a checkout, 'python setup.py build_ext --inplace'."
    ) from error

_info = _C.build_info()
__version__: str = _info["version"]


def _series(version: str) -> list[str]:
    return version.split("+")[0].split(".")[:2]


# libtorch promises no binary compatibility between minor releases: say so rather than fail on a missing symbol.
if _series(_info["torch_version"]) != _series(torch.__version__):
    raise ImportError(
        f"convmin was built for torch {_info['torch_version']} but torch {torch.__version__} is installed. "
        "Rebuild it with 'pip install --no-build-isolation --force-reinstall --no-deps .'."
    )

torch.ops.load_library(str(_PACKAGE / "libconvmin.so"))


def library_dir() -> Path:
    """Folder of ``libconvmin.so``, for C++ programs that link it."""
    return _PACKAGE


def include_dir() -> Path:
    """Folder to put on a C++ compiler's include path for ``#include <convmin/ops.h>``."""
    installed = _PACKAGE / "include"
    return installed if installed.is_dir() else _PACKAGE.parents[1] / "csrc" / "include"
