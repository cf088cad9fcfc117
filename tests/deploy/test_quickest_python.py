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


def test_only_builds_of_the_version_that_uv_would_take_are_compared(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, newer, free, pypy = pythons(tmp_path, dict.fromkeys("abcde", "1"))
    link = tmp_path / "link"
    link.symlink_to(first)
    uv_that_lists(
        tmp_path,
        [
            entry(first, "3.12.4"),
            entry(str(link), "3.12.4"),
            entry(newer, "3.13.0"),
            entry(second, "3.12.1"),
            entry(free, "3.12.4", variant="freethreaded"),
            entry(pypy, "3.12.0", implementation="pypy"),
        ],
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert script.installed() == [first, second]


def test_without_one_uv_is_told_what_to_look_for(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv_that_lists(tmp_path, [])
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert script.choose(script.installed()) == ">=3.11"
