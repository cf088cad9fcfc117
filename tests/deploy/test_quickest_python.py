"""Which of several Pythons of the same version `just install` takes."""

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "quickest_python.py"


@pytest.fixture(name="script", scope="module")
def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickest_python", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pythons(folder: Path, told: Mapping[str, str]) -> list[str]:
    """Make programs that answer, whatever they are asked, with a number of seconds."""
    made = []
    for name, answer in told.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\necho {answer}\n")
        path.chmod(0o755)
        made.append(str(path))
    return made


def uv_that_lists(folder: Path, listed: list[dict[str, Any]]) -> None:
    uv = folder / "uv"
    uv.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(listed)}\nEND\n")
    uv.chmod(0o755)


def entry(path: str, version: str, **changed: str) -> dict[str, Any]:
    major, minor, patch = map(int, version.split("."))
    parts = {"major": major, "minor": minor, "patch": patch}
    return {
        "path": path, "version_parts": parts, "implementation": "cpython", "variant": "default"
    } | changed  # fmt: skip


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"uvs": "0.020", "other": "0.015"}, "other"),
        ({"uvs": "0.020", "other": "0.019"}, "uvs"),
        ({"uvs": "0.020", "slow": "0.030", "quick": "0.010"}, "quick"),
        ({"uvs": "0.020", "broken": "nothing"}, "uvs"),
        ({"broken": "nothing", "other": "0.030"}, "other"),
    ],
)
def test_another_one_is_taken_only_when_it_is_clearly_quicker(
    script: ModuleType, tmp_path: Path, told: dict[str, str], expected: str
) -> None:
    assert script.choose(pythons(tmp_path, told)) == str(tmp_path / expected)


def test_a_real_one_is_timed(script: ModuleType) -> None:
    assert 0 < script.seconds(sys.executable) < 10


def test_only_builds_of_the_version_that_runs_it_are_compared(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, second, newer, free, pypy = pythons(tmp_path, dict.fromkeys("abcde", "1"))
    link = tmp_path / "link"
    link.symlink_to(own)
    minor = sys.version_info[1]
    uv_that_lists(
        tmp_path,
        [
            # uv lists the newest first, whichever it would take.
            entry(newer, f"3.{minor + 1}.0"),
            entry(second, f"3.{minor}.99"),
            entry(str(link), f"3.{minor}.4"),
            entry(free, f"3.{minor}.4", variant="freethreaded"),
            entry(pypy, f"3.{minor}.0", implementation="pypy"),
        ],
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert script.same_version(own) == [own, second]


@pytest.mark.parametrize("listed", [[], [{"path": "/x"}], {"no": "list"}])
def test_without_a_list_it_is_the_one_that_runs_it(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: Any
) -> None:
    uv_that_lists(tmp_path, listed)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert script.choose(script.same_version(sys.executable)) == sys.executable
