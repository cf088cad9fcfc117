"""Where the clients are that the tests drive, and what becomes of a test whose client is absent."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-clients/bin/python"
MODULES = HERE / "node/node_modules"


def python() -> Path:
    """Return the interpreter of the environment with the clients for Python."""
    if not PYTHON.exists():
        absent("the clients for Python are not installed: run `just clients`")
    return PYTHON


def node() -> str:
    """Return the `node` that has the client for Node beside it."""
    found = shutil.which("node")
    if found is None and shutil.which("npm") is None:
        pytest.skip("neither node nor npm is on this machine: install Node.js 22 or newer")
    if found is None:
        absent("npm is here and node is not: install Node.js 22 or newer")
    if not MODULES.exists():
        absent("the client for Node is not installed: run `just clients`, which needs npm")
    return found


def absent(what: str) -> NoReturn:
    """Skip the test, or fail it in CI, where nobody reads what was skipped."""
    if os.environ.get("CI", "").lower() in ("", "0", "false"):
        pytest.skip(what)
    pytest.fail(what)
