"""Other people's clients, as they are published, against a running LocalForge.

They live in environments of their own (`just clients`), so that nothing of theirs gets into
LocalForge's. Each script prints what it got as one JSON object.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import KEY
from tests.clients.installed import absent, node, python
from tests.e2e.stack import Stack
from tests.fakes.openai_server import WORDS

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(120)

TEXT = " ".join(WORDS)
CALL = ["weather", {"city": "Oslo"}]
TOKENS = 1 + len(WORDS)


def run(command: list[str], stack: Stack, folder: Path) -> dict[str, Any]:
    """Run a client's script and return what it prints."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=folder,
        env={
            "PATH": stack.environment["PATH"],
            "HOME": str(folder),
            "LF_URL": stack.url,
            "LF_KEY": KEY,
            "LLM_USER_PATH": str(folder),
            # Its list of prices otherwise comes from the network.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr + stack.tail(20)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def script(name: str, stack: Stack, folder: Path) -> dict[str, Any]:
    return run([str(python()), str(HERE / "scripts" / name)], stack, folder)


def test_openai(stack: Stack, tmp_path: Path):
    assert script("openai_python.py", stack, tmp_path) == {
        "whole": TEXT,
        "stream": TEXT,
        "usage": [TOKENS, TOKENS],
        "tool": CALL,
        "completion": TEXT,
        "completion stream": TEXT,
        "several": [[0, TEXT], [1, TEXT]],
        "vectors": [[3.0, 1.0], [9.0, 2.0]],
    }


def test_openai_for_node(stack: Stack, tmp_path: Path):
    assert run([node(), str(HERE / "node/openai_node.mjs")], stack, tmp_path) == {
        "whole": TEXT,
        "stream": TEXT,
        "usage": [TOKENS, TOKENS],
        "tool": CALL,
        "completion": TEXT,
        "vectors": [[3, 1]],
    }


def test_anthropic(stack: Stack, tmp_path: Path):
    assert script("anthropic_python.py", stack, tmp_path) == {
        "whole": TEXT,
        "stream": TEXT,
        "usage": [[0, len(WORDS), 1], [0, len(WORDS), 1]],
        "stop": ["end_turn", "end_turn", "tool_use"],
        "tool": CALL,
        "after the tool": TEXT,
        "begins with a count": True,
        "counted": True,
        "refused": "not_found_error",
    }


def test_litellm(stack: Stack, tmp_path: Path):
    expected = {"whole": TEXT, "stream": TEXT, "tool": CALL, "tokens": TOKENS}

    assert script("litellm_client.py", stack, tmp_path) == {
        "openai": expected,
        "anthropic": expected,
        "vectors": [[3.0, 1.0]],
    }


def test_langchain(stack: Stack, tmp_path: Path):
    assert script("langchain_openai_client.py", stack, tmp_path) == {
        "whole": TEXT,
        "stream": TEXT,
        "usage": [TOKENS, TOKENS],
        "tool": CALL,
        "vectors": [[3.0, 1.0]],
    }


def test_llm(stack: Stack, tmp_path: Path):
    assert script("llm_client.py", stack, tmp_path) == {
        "whole": TEXT,
        "stream": TEXT,
        "pieces": True,
        "tool": CALL,
        "after the tool": TEXT,
    }


@pytest.mark.parametrize(
    ("ci", "outcome"),
    [
        ("", pytest.skip.Exception),
        ("false", pytest.skip.Exception),
        ("true", pytest.fail.Exception),
    ],
)
def test_no_client_is_left_out_in_silence_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
):
    monkeypatch.setenv("CI", ci)

    with pytest.raises(outcome, match="run `just clients`"):
        absent("the clients are not installed: run `just clients`")
