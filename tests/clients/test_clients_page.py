"""The examples of docs/clients.md do what the page says, run as they stand there."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import KEY
from tests.clients.installed import MODULES, node, python
from tests.clients.test_clients import TEXT
from tests.e2e.stack import Stack

PAGE = Path(__file__).parents[2] / "docs/clients.md"
ADDRESS = "http://127.0.0.1:8080"
AFTERWARDS = {
    "LiteLLM as a client": "print(answer.choices[0].message.content)",
    "LangChain": "print(chat.invoke('Hi').content, len(embeddings.embed_query('one')))",
}
"""What shows that an example works that prints nothing itself."""
pytestmark = pytest.mark.timeout(180)


def examples(language: str, stack: Stack) -> dict[str, str]:
    """Return the page's examples in a language by their section, with this stack's names."""
    found = {}
    for section in PAGE.read_text().split("\n## ")[1:]:
        title = section.partition("\n")[0]
        for code in re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL):
            here = code.replace(ADDRESS, stack.url).replace("my-key", KEY)
            here = here.replace("my-embedding-model", "vectors")
            found[title] = f"{here}\n{AFTERWARDS.get(title, '')}\n"
    return found


def run(command: list[str], stack: Stack, folder: Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        cwd=cwd or folder,
        env={
            "PATH": stack.environment["PATH"],
            "HOME": str(folder),
            "LLM_USER_PATH": str(folder),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr + stack.tail(20)
    return done.stdout


def test_the_examples_in_python_work(stack: Stack, tmp_path: Path):
    found = examples("python", stack)
    (tmp_path / "all.py").write_text(
        # One process: they import much of the same.
        f"for code in {list(found.values())!r}:\n    print()\n    exec(code, {{}})\n"
    )
    said = run([str(python()), "all.py"], stack, tmp_path)

    assert set(found) == {
        "OpenAI for Python",
        "Anthropic for Python",
        "LiteLLM as a client",
        "LangChain",
    }
    assert said.count(TEXT) == len(found), said


def test_the_example_for_llm_works(stack: Stack, tmp_path: Path):
    (models,) = examples("yaml", stack).values()
    (tmp_path / "extra-openai-models.yaml").write_text(models)
    (tmp_path / "keys.json").write_text(f'{{"localforge": "{KEY}"}}')

    assert TEXT in run([str(python().parent / "llm"), "-m", "localforge", "Hi"], stack, tmp_path)


def test_the_example_for_node_works(stack: Stack, tmp_path: Path):
    (code,) = examples("js", stack).values()

    command = [node(), "--input-type=module", "-e", code]
    assert run(command, stack, tmp_path, MODULES.parent) == TEXT
