"""`localforge faults serve` as its user runs it."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

COMMAND = (sys.executable, "-m", "localforge.cli.main", "faults")


@pytest.fixture(name="told", scope="module")
def _told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The addresses that it prints, by their names, while it serves."""
    schedule: Path = tmp_path_factory.mktemp("faults") / "schedule"
    schedule.write_text("503*2 healthy")
    process = subprocess.Popen(
        [*COMMAND, "serve", "--schedule", str(schedule), "--no-chat-template"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines = (process.stdout.readline() for _ in range(4))
        yield dict(map(_named, lines))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _named(line: str) -> tuple[str, str]:
    name, _, address = line.strip().rpartition("  ")
    return name.strip(), address


def ask(url: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, json.load(exc)


def test_it_serves_what_it_was_told_and_says_where(told: dict[str, str]):
    base = told["Anthropic, Ollama, TGI"]
    message = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    statuses = [ask(f"{base}/v1/messages", message)[0] for _ in range(3)]
    named = ask(f"{base}/v1/messages", message | {"model": "fault-error-in-200"})
    chat = ask(f"{told['OpenAI and TGI chat']}/chat/completions", message)
    _, journal = ask(told["journal"])

    assert statuses == [503, 503, 200]
    assert (named[0], named[1]["error"]["type"]) == (200, "overloaded_error")
    assert (chat[0], chat[1]["error_type"]) == (422, "template_error")
    assert [r["fault"] for r in journal["requests"]] == ["503", "503", "healthy", "error-in-200"]


def test_the_refused_address_refuses(told: dict[str, str]):
    address = urlsplit(told["refused"])

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname, address.port), timeout=20)


def test_a_schedule_of_unknown_faults_and_a_taken_port_are_said_in_words(told: dict[str, str]):
    taken = urlsplit(told["journal"]).port
    attempts = {
        "no-such": (*COMMAND, "serve", "--schedule", "no-such"),
        f"cannot listen at 127.0.0.1:{taken}": (*COMMAND, "serve", "--port", str(taken)),
    }

    for words, command in attempts.items():
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, env=dict(os.environ)
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_the_list_names_every_fault():
    done = subprocess.run(
        (*COMMAND, "list", "--json"), capture_output=True, text=True, timeout=30, check=True
    )

    assert "cut-mid-stream" in json.loads(done.stdout)
