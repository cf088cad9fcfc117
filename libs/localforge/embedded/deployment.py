"""Files for running the parts apart: the broker's configuration and one secret per container.

`python -m localforge.embedded.deployment template CONFIG` prints `nats-server.conf`;
`python -m localforge.embedded.deployment secrets CONFIG FOLDER` makes what is missing in a folder:

    nats.env            LF_NATS_PASSWORD_<USER>=…, for nats-server alone
    nats-<user>.json    one user's password, for `nats.credentials`
    redis-password      of Redis's default user, for its health check
    redis-users.acl     Redis's users, for redis-server alone
    redis.env           LOCALFORGE_REDIS_URL with the default user's password, for the services
    redis-<user>.env    the same with an executor's own user, which may do next to nothing
    seal-private.pem    for the profiler alone
    seal-public.pem     for the executors
"""

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from localforge.bus.permissions import permissions
from localforge.config import Config, load
from localforge.embedded.nats_conf import nats_conf, password_variable
from localforge.embedded.redis_acl import acl_file, acl_users, executor_url
from localforge.embedded.state import new_password, write_private
from localforge.errors import ConfigError
from localforge.trust.keys import ensure_key_pair

STORE_DIR = "/data/jetstream"
MONITOR = "127.0.0.1:8222"
REDIS_ADDRESS = "redis:6379"

_HEAD = """\
# Generated from the [[backends]] of a configuration; do not edit, run
#   python -m localforge.embedded.deployment template CONFIG
# Passwords come from the environment. One may not start with a digit: nats-server would read it
# as a number.

"""
_REMOTE_ZONE = """
# Another site. Its executors connect to this server with their own users, which can read nothing
# but their own backend's requests. Let them in over TLS only:
#
#   tls { cert_file: "/etc/nats/server.pem", key_file: "/etc/nats/server-key.pem" }
#
# or run a leaf node there, one user for each executor, whose permissions and account bind the whole
# link. A leaf node that was taken over can acknowledge other executors' durable work:
#
#   leafnodes { listen: "0.0.0.0:7422", tls { cert_file: "…", key_file: "…" } }          here
#   leafnodes { remotes: [ { url: "tls://executor-cloud-x:PASSWORD@here:7422" } ] }      there
"""


def template(config: Config) -> str:
    """Return `nats-server.conf` for a configuration's backends, passwords from the environment."""
    users = permissions(_backends(config))
    conf = nats_conf(
        users,
        None,
        listen="0.0.0.0:4222",
        store_dir=STORE_DIR,
        server_name="localforge",
        monitor=MONITOR,
    )
    return _HEAD + conf + _REMOTE_ZONE


def write_secrets(config: Config, folder: Path) -> None:
    """Make the secrets that are missing in a folder; existing ones stay as they are.

    Raises:
        ConfigError: The folder cannot be written, or holds a file that is not ours.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        passwords = {
            user: _nats_password(folder / f"nats-{user}.json", user)
            for user in permissions(_backends(config))
        }
        lines = (f"{password_variable(user)}={password}" for user, password in passwords.items())
        write_private(folder / "nats.env", "\n".join([*lines, ""]).encode())
        redis = _redis_password(folder / "redis-password")
        url = f"redis://:{redis}@{REDIS_ADDRESS}/0"
        write_private(folder / "redis.env", f"LOCALFORGE_REDIS_URL={url}\n".encode())
        users = acl_users(config.redis.prefix, _backends(config), passwords)
        write_private(folder / "redis-users.acl", acl_file(redis, users).encode())
        for user in users:
            own = executor_url(url, user, passwords[user])
            write_private(folder / f"redis-{user}.env", f"LOCALFORGE_REDIS_URL={own}\n".encode())
        ensure_key_pair(folder)
    except OSError as exc:
        raise ConfigError(f"secrets in {folder}: {exc.strerror}: {exc.filename}") from exc


def main(arguments: Iterable[str]) -> None:
    """Run the command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m localforge.embedded.deployment")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, told in (("template", "print nats-server.conf"), ("secrets", "make secrets")):
        command = commands.add_parser(name, help=told)
        command.add_argument("config", type=Path)
        if name == "secrets":
            command.add_argument("folder", type=Path)
    chosen = parser.parse_args(list(arguments))
    try:
        config = load(chosen.config, os.environ)
        if chosen.command == "template":
            sys.stdout.write(template(config))
        else:
            write_secrets(config, chosen.folder)
    except ConfigError as exc:
        sys.exit(f"error: {exc.message}")


def _backends(config: Config) -> list[tuple[str, str]]:
    return [(backend.zone, backend.name) for backend in config.backends]


def _nats_password(path: Path, user: str) -> str:
    if not path.exists():
        write_private(path, msgspec.json.encode({user: new_password()}))
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])[user]
    except (msgspec.DecodeError, KeyError) as exc:
        raise ConfigError(f"{path} does not hold the password of `{user}`; remove it") from exc


def _redis_password(path: Path) -> str:
    if not path.exists():
        write_private(path, new_password().encode())
    return path.read_text().strip()


if __name__ == "__main__":
    main(sys.argv[1:])
