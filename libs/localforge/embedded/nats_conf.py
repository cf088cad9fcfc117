"""Render `nats-server.conf`: JetStream on file, one user per service, everything else denied.

Who is not of this site has an account of its own, without JetStream; `localforge.bus.accounts` says
why.

The same function makes the file of `localforge up` (passwords inside, mode 0600) and the template
in `deploy/nats/` (passwords from the environment), so the two cannot drift apart.
"""

from collections.abc import Mapping

from localforge.bus.accounts import Account, Export, Import, accounts_of
from localforge.bus.permissions import Permissions
from localforge.errors import ConfigError

MAX_PAYLOAD_BYTES = 24 * 1024 * 1024
"""Holds the largest body the edge takes (16 MB) and what travels with it. nats-server warns above
8 MB; such bodies are rare, one at a time, and a claim check would cost each of them two more
round trips through the object store."""
MAX_MEMORY_BYTES = 256 * 1024 * 1024
"""For JetStream's memory streams; `LF_EVALUATE`, the only one, is bounded to 64 MiB."""
_PASSWORD_PREFIX = "LF_NATS_PASSWORD_"  # noqa: S105  # the name of a variable


def nats_conf(
    users: Mapping[str, Permissions],
    passwords: Mapping[str, str] | None,
    *,
    listen: str,
    store_dir: str,
    server_name: str = "",
    monitor: str = "",
) -> str:
    """Return the configuration file's text.

    Args:
        users: Permissions by user, from `localforge.bus.permissions`.
        passwords: By user; None writes references to `LF_NATS_PASSWORD_<USER>` instead, which
            nats-server reads from its environment.
        listen: `host:port` for clients.
        store_dir: JetStream's directory; one server at a time may use it.
        server_name: Told to clients on connect; empty lets the server make one up.
        monitor: `host:port` of the HTTP monitor (`/healthz`); empty means none.

    Raises:
        ConfigError: A user has no password, or two users would share a variable.
    """
    secrets = _references(users) if passwords is None else _literals(users, passwords)
    head = [f"listen: {_quote(listen)}"]
    if server_name:
        head.append(f"server_name: {_quote(server_name)}")
    if monitor:
        head.append(f"http: {_quote(monitor)}")
    return "\n".join(
        [
            *head,
            f"max_payload: {MAX_PAYLOAD_BYTES}",
            "# A client that does not read for this long is cut off; it reconnects.",
            'write_deadline: "5s"',
            "",
            "jetstream {",
            f"  store_dir: {_quote(store_dir)}",
            f"  max_memory_store: {MAX_MEMORY_BYTES}",
            "}",
            "",
            "accounts {",
            *(
                line
                for account in accounts_of(users).values()
                for line in _account(account, users, secrets)
            ),
            "}",
            "",
        ]
    )


def password_variable(user: str) -> str:
    """Return the environment variable that holds a user's password in the template."""
    return _PASSWORD_PREFIX + user.upper().replace("-", "_")


def _references(users: Mapping[str, Permissions]) -> dict[str, str]:
    owners: dict[str, str] = {}
    for user in users:
        variable = password_variable(user)
        if variable in owners:
            raise ConfigError(
                f"NATS users `{owners[variable]}` and `{user}` would share the variable "
                f"{variable}; rename a backend"
            )
        owners[variable] = user
    return {user: f"${variable}" for variable, user in owners.items()}


def _literals(users: Mapping[str, Permissions], passwords: Mapping[str, str]) -> dict[str, str]:
    missing = sorted(user for user in users if not passwords.get(user))
    if missing:
        raise ConfigError(f"no password for the NATS user(s) {', '.join(missing)}")
    return {user: _quote(passwords[user]) for user in users}


def _account(
    account: Account, users: Mapping[str, Permissions], secrets: Mapping[str, str]
) -> list[str]:
    return [
        f"  {_quote(account.name)}: {{",
        *(["    jetstream: enabled"] if account.has_jetstream else []),
        "    # A user with no list of its own may do nothing.",
        '    default_permissions: { publish: { deny: ">" }, subscribe: { deny: ">" } }',
        "    users: [",
        *(line for user in account.users for line in _user(user, secrets[user], users[user])),
        "    ]",
        *_list("exports", [_export(export) for export in account.exports]),
        *_list("imports", [_import(import_) for import_ in account.imports]),
        "  }",
    ]


def _user(user: str, secret: str, permissions: Permissions) -> list[str]:
    return [
        "      {",
        f"        user: {_quote(user)}",
        f"        password: {secret}",
        "        permissions {",
        *_allow("publish", permissions.publish),
        *_allow("subscribe", permissions.subscribe),
        "        }",
        "      }",
    ]


def _allow(verb: str, allowed: tuple[str, ...]) -> list[str]:
    return [
        f"          {verb}: {{ allow: [",
        *(f"            {_quote(subject)}" for subject in allowed),
        "          ] }",
    ]


def _list(name: str, entries: list[str]) -> list[str]:
    if not entries:
        return []
    return [f"    {name}: [", *(f"      {entry}" for entry in entries), "    ]"]


def _export(export: Export) -> str:
    kept = ""
    if export.keeps_reply_s:
        kept = f', response_threshold: "{export.keeps_reply_s}s"'
    response = ", response_type: stream" if export.has_many_replies else ""
    to = ", ".join(_quote(account) for account in export.accounts)
    return f"{{ {export.kind}: {_quote(export.subject)}{response}{kept}, accounts: [{to}] }}"


def _import(import_: Import) -> str:
    source = f"account: {_quote(import_.account)}, subject: {_quote(import_.subject)}"
    to = f", to: {_quote(import_.known_as)}" if import_.known_as != import_.subject else ""
    return f"{{ {import_.kind}: {{ {source} }}{to} }}"


def _quote(text: str) -> str:
    if any(char in text for char in '"\\\n'):
        raise ConfigError(
            f"{text!r} cannot stand in nats-server.conf: no quote, backslash, newline"
        )
    return f'"{text}"'
