"""Properties of exports and imports that hold for any set of backends."""

from hypothesis import given
from hypothesis import strategies as st

from localforge.bus.accounts import accounts_of
from localforge.bus.permissions import SITE, permissions
from localforge.contracts import subjects

_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_]{0,8}", fullmatch=True)
_zones = st.sampled_from(["local", "cloud", "abroad"])
_backends = st.lists(st.tuples(_zones, _names), unique=True, max_size=5)


@given(_backends)
def test_each_user_is_in_one_account_and_only_the_sites_has_jetstream(
    backends: list[tuple[str, str]],
):
    users = permissions(backends)
    accounts = accounts_of(users)

    assert sorted(user for account in accounts.values() for user in account.users) == sorted(users)
    assert [name for name, account in accounts.items() if account.has_jetstream] == [SITE]
    elsewhere = {"app", *(f"executor-{z}-{b}" for z, b in backends if z != "local")}
    assert {name for name in accounts if name != SITE} == elsewhere
    assert all(accounts[name].users == (name,) for name in elsewhere)


@given(_backends)
def test_what_is_imported_is_exported_to_exactly_that_account(backends: list[tuple[str, str]]):
    accounts = accounts_of(permissions(backends))

    exported = {
        (name, export.kind, export.subject, importer)
        for name, account in accounts.items()
        for export in account.exports
        for importer in export.accounts
    }
    hop = subjects.execute("*", "*")
    imported = {
        (
            import_.account,
            import_.kind,
            import_.subject if import_.account == SITE else hop,
            name,
        )
        for name, account in accounts.items()
        for import_ in account.imports
    }
    assert imported == exported
    assert all(export.accounts for account in accounts.values() for export in account.exports)


@given(_backends)
def test_an_account_imports_nothing_that_its_user_may_not_use(backends: list[tuple[str, str]]):
    users = permissions(backends)

    for name, account in accounts_of(users).items():
        if name == SITE:
            continue
        for import_ in account.imports:
            allowed = {
                "service": (*users[name].publish, "lf.nobody"),
                "stream": users[name].subscribe,
            }
            assert import_.subject in allowed[import_.kind]


@given(_backends)
def test_content_for_one_backend_passes_into_its_account_from_all_others_and_nowhere_else(
    backends: list[tuple[str, str]],
):
    accounts = accounts_of(permissions(backends))
    givers = {SITE, *(f"executor-{z}-{b}" for z, b in backends if z != "local")}

    for zone, backend in backends:
        subject = subjects.execute(zone, backend)
        passages = {
            (import_.account, name)
            for name, account in accounts.items()
            for import_ in account.imports
            if import_.subject == subject
        }
        own = SITE if zone == "local" else f"executor-{zone}-{backend}"
        assert passages == {(giver, own) for giver in givers - {own}}


def test_several_answers_come_to_a_pull_and_a_late_one_to_a_live_request():
    site = accounts_of(permissions([("cloud", "x")]))[SITE]

    assert [e.subject for e in site.exports if e.has_many_replies] == [
        "$JS.API.CONSUMER.MSG.NEXT.LF_REQUESTS.executor-cloud-x"
    ]
    assert [e.subject for e in site.exports if e.keeps_reply_s] == ["lf.live.chat"]
