"""Which users share a NATS account, and which subjects pass between accounts.

The broker checks where a user publishes to, but not the reply subject that it names, and JetStream
answers there as the server, which may publish anywhere. A user in JetStream's own account could so
have the server publish for it: to JetStream's API, or into a stream. Therefore who is not of this
site (`app` and the executors of other zones) has an account of its own, without JetStream. A
message that passes from one account to another as a *service* gets another reply subject, made up
by the broker, and what is answered there comes to the one that was named within the account that it
came from.

All exports and imports follow from the users' lists, which stay in force:

- What such a user may publish is a service of `SITE`, and what it may subscribe to a stream of it,
  except for its own inboxes.
- A live request is handed on with the edge's inbox in its reply subject, which must arrive as it
  is; so it passes as a stream, from the account that publishes to those that take it. Nothing but
  an executor listens there, and it answers with its own permissions.

- nats-server gives each account, with JetStream or without, JetStream's whole API of the account
  itself, which would answer every request with an error beside the right answer from `SITE`. It
  does not where an account imports `$JS.API.INFO`, so these do, from a subject nobody serves.

The broker does not replace reply subjects that begin with `$JS.ACK.`, since pulls across accounts
need them, but refuses them where a client names one. It does not refuse them to a leaf node.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from localforge.bus.permissions import SITE, Permissions
from localforge.contracts import subjects

Kind = Literal["service", "stream"]

_HANDED_ON = subjects.execute("*", "*")
_PULL_PREFIX = "$JS.API.CONSUMER.MSG.NEXT."
_INBOX_PREFIX = "_INBOX"
_JETSTREAM_INFO = "$JS.API.INFO"
_NOBODY = "lf.nobody"
_LONGEST_ANSWER_S = 24 * 3600
"""nats-server forgets after two minutes where an answer belongs, which a model may exceed."""


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """A subject that an account offers to others."""

    kind: Kind
    subject: str
    accounts: tuple[str, ...]
    """To nobody else; never empty."""

    @property
    def has_many_replies(self) -> bool:
        """True for pulls: each message is an answer."""
        return self.kind == "service" and self.subject.startswith(_PULL_PREFIX)

    @property
    def keeps_reply_s(self) -> int:
        """How long an answer is waited for; 0 leaves it to the server."""
        is_slow = self.kind == "service" and self.subject == subjects.LIVE_CHAT
        return _LONGEST_ANSWER_S if is_slow else 0


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """A subject that an account takes from another one."""

    kind: Kind
    subject: str
    account: str
    """Who exports it."""
    known_as: str
    """The subject in the account that imports it."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A name space of subjects."""

    name: str
    users: tuple[str, ...]
    exports: tuple[Export, ...]
    imports: tuple[Import, ...]

    @property
    def has_jetstream(self) -> bool:
        """Only this site has streams."""
        return self.name == SITE


class _Passage(msgspec.Struct, frozen=True, kw_only=True):
    """One subject from one account to another."""

    kind: Kind
    exporter: str
    exported: str
    importer: str
    imported: str
    """Equal to `exported`, or part of it."""
    known_as: str
    """To the importer."""


def accounts_of(users: Mapping[str, Permissions]) -> dict[str, Account]:
    """Return every account by its name; that of the site comes first.

    Args:
        users: From `localforge.bus.permissions`.
    """
    passages = [*_with_site(users), *_handed_on(users)]
    names = dict.fromkeys([SITE, *(lists.account for lists in users.values())])
    return {
        name: Account(
            name=name,
            users=tuple(user for user, lists in users.items() if lists.account == name),
            exports=_exports(passages, name),
            imports=_imports(passages, name),
        )
        for name in names
    }


def _with_site(users: Mapping[str, Permissions]) -> Iterator[_Passage]:
    for lists in users.values():
        if lists.account == SITE:
            continue
        for subject in lists.publish:
            if subject != _HANDED_ON:
                yield _from_site("service", subject, lists.account)
        for subject in lists.subscribe:
            if not subject.startswith(_INBOX_PREFIX):
                yield _from_site("stream", subject, lists.account)
        yield _from_site("service", _NOBODY, lists.account, known_as=_JETSTREAM_INFO)


def _from_site(kind: Kind, subject: str, account: str, *, known_as: str = "") -> _Passage:
    return _Passage(
        kind=kind,
        exporter=SITE,
        exported=subject,
        importer=account,
        imported=subject,
        known_as=known_as or subject,
    )


def _handed_on(users: Mapping[str, Permissions]) -> Iterator[_Passage]:
    """Live requests that executors elsewhere give to the next model of a plan."""
    givers = [
        lists.account
        for lists in users.values()
        if lists.account != SITE and _HANDED_ON in lists.publish
    ]
    prefix = _HANDED_ON.partition("*")[0]
    takers = [
        (lists.account, subject)
        for lists in users.values()
        for subject in lists.subscribe
        if subject.startswith(prefix)
    ]
    for giver in givers:
        for taker, subject in takers:
            if taker != giver:
                yield _Passage(
                    kind="stream",
                    exporter=giver,
                    exported=_HANDED_ON,
                    importer=taker,
                    imported=subject,
                    known_as=subject,
                )


def _exports(passages: list[_Passage], account: str) -> tuple[Export, ...]:
    importers: dict[tuple[Kind, str], dict[str, None]] = {}
    for passage in passages:
        if passage.exporter == account:
            key = (passage.kind, passage.exported)
            importers.setdefault(key, {})[passage.importer] = None
    return tuple(
        Export(kind=kind, subject=subject, accounts=tuple(found))
        for (kind, subject), found in importers.items()
    )


def _imports(passages: list[_Passage], account: str) -> tuple[Import, ...]:
    return tuple(
        Import(
            kind=passage.kind,
            subject=passage.imported,
            account=passage.exporter,
            known_as=passage.known_as,
        )
        for passage in passages
        if passage.importer == account
    )
