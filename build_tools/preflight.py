"""Looks for what a build needs of the system, before anything is downloaded. Runs on any Python, old ones too.

python preflight.py          what a build needs
python preflight.py --venv   and what a virtual environment needs
"""

import os
import shlex
import shutil
import sys
import sysconfig


def problems(venv):  # no type hints: old Pythons read this file too
    if not sys.platform.startswith("linux"):
        yield "convmin builds on Linux; this is " + sys.platform
    if sys.version_info < (3, 10):
        yield (
            "Python 3.10 or newer is needed, and %s is %d.%d. Name another one: make demo PYTHON=python3.12"
            % ((sys.executable,) + sys.version_info[:2])
        )
        return  # the rest would judge a Python that won't be used
    if venv:
        try:
            import ensurepip  # noqa: F401
            import venv
        except ImportError:
            yield "this Python can't make virtual environments. On Debian and Ubuntu: apt install python3-venv"
    named = shlex.split(os.environ.get("CXX", ""))
    if not any(shutil.which(compiler) for compiler in (named[:1] or ["g++", "c++", "clang++"])):
        yield "no C++ compiler: %s. On Debian and Ubuntu: apt install g++" % (named[:1] or "g++, c++, clang++")
    if not os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h")):
        yield "this Python's headers are missing (Python.h). On Debian and Ubuntu: apt install python3-dev"


found = list(problems(venv="--venv" in sys.argv))
for problem in found:
    sys.stderr.write("convmin: %s\n" % problem)
sys.exit(1 if found else 0)
