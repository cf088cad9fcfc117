"""A listening socket that outlives the process that serves it.

`localforge up` listens on the edge's port itself and passes the socket on, its number in
`LOCALFORGE_LISTEN_FD`. Whoever connects while the edge is started again, after a crash for
example, waits in the kernel's queue for the new process; without that he would be refused.
"""

import errno
import os
import socket

from localforge.errors import ConfigError

LISTEN_FD = "LOCALFORGE_LISTEN_FD"
BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: Address or name.
        port: 0 takes a free one.

    Raises:
        ConfigError: The port is in use, or the address is not one of this machine's.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as exc:
        raise ConfigError(f"`edge.host` = {host!r} is not an address: {exc.strerror}") from exc
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} on {host} is in use; stop what uses it, or choose another port with "
                "`--port` or `edge.port`",
                code="port_in_use",
            ) from exc
        raise ConfigError(
            f"cannot listen on {host} port {port} (`edge.host`, `edge.port`): {exc.strerror}"
        ) from exc
    listener.setblocking(False)
    return listener


def inherited() -> socket.socket | None:
    """Return the socket that the supervisor passed on, once; None without one."""
    descriptor = os.environ.pop(LISTEN_FD, "")
    if not descriptor:
        return None
    listener = socket.socket(fileno=int(descriptor))
    listener.set_inheritable(False)
    return listener
