"""A listening socket made by one process and served by another."""

import os
import socket
import subprocess
import sys

import pytest

from localforge.embedded.listener import LISTEN_FD, inherited, listen
from localforge.errors import ConfigError

SERVE_ONE = """
from localforge.embedded.listener import inherited

listener = inherited()
listener.setblocking(True)
connection, _ = listener.accept()
connection.sendall(b"served")
connection.close()
"""


def test_who_connects_before_anybody_serves_is_served_later() -> None:
    with (
        listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname(), timeout=10) as client,
    ):
        number = listener.fileno()
        subprocess.run(
            [sys.executable, "-c", SERVE_ONE],
            env=os.environ | {LISTEN_FD: str(number)},
            pass_fds=[number],
            check=True,
        )

        assert client.recv(100) == b"served"


def test_it_is_inherited_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen("127.0.0.1", 0) as made:
        monkeypatch.setenv(LISTEN_FD, str(os.dup(made.fileno())))
        with inherited() or made as found:
            assert found is not made
            assert found.getsockname() == made.getsockname()
            assert not found.get_inheritable()
            assert inherited() is None


def test_a_port_in_use_is_named() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1 is in use") as caught:
            listen("127.0.0.1", port)

    assert caught.value.code == "port_in_use"
