"""Rendering of nats-server.conf: what is refused rather than written."""

import pytest

from localforge.bus.permissions import Permissions, permissions
from localforge.embedded.nats_conf import nats_conf, password_variable
from localforge.errors import ConfigError

USERS = {"edge": Permissions(publish=("lf.profile",), subscribe=("lf.live.chat",))}


def _conf(users: dict[str, Permissions], passwords: dict[str, str] | None) -> str:
    return nats_conf(users, passwords, listen="127.0.0.1:4222", store_dir="/data")


def test_every_user_appears_with_its_password_and_lists():
    text = _conf(USERS, {"edge": "secret", "nobody": "unused"})

    assert 'user: "edge"' in text
    assert 'password: "secret"' in text
    assert text.index('"lf.profile"') < text.index("subscribe: { allow") < text.index('"lf.live')
    assert "unused" not in text


def test_without_passwords_the_environment_is_referred_to():
    text = _conf(permissions([("local", "my-model_2")]), None)

    assert "password: $LF_NATS_PASSWORD_EXECUTOR_LOCAL_MY_MODEL_2" in text


def test_a_missing_password_is_refused():
    with pytest.raises(ConfigError, match=r"no password for the NATS user\(s\) edge"):
        _conf(USERS, {"edge": ""})


def test_users_that_would_share_a_variable_are_refused():
    users = permissions([("local", "a-b"), ("local", "a_b")])

    with pytest.raises(ConfigError, match="would share the variable LF_NATS_PASSWORD_EXECUTOR"):
        _conf(users, None)


@pytest.mark.parametrize("password", ['a"b', "a\\b", "a\nb"])
def test_a_password_that_would_end_its_quotes_is_refused(password: str):
    with pytest.raises(ConfigError, match=r"cannot stand in nats-server\.conf"):
        _conf(USERS, {"edge": password})


def test_the_variable_of_a_user_is_a_shell_name():
    assert password_variable("executor-local-a") == "LF_NATS_PASSWORD_EXECUTOR_LOCAL_A"


def test_users_of_other_sites_have_accounts_of_their_own_without_jetstream():
    users = permissions([("local", "a"), ("cloud", "b")])
    text = _conf(users, dict.fromkeys(users, "secret"))

    site, _, others = text.partition('  "app": {')
    app, _, executor = others.partition('  "executor-cloud-b": {')
    assert 'user: "executor-local-a"' in site
    assert "jetstream: enabled" in site
    assert "jetstream: enabled" not in others
    assert 'user: "app"' in app
    assert 'user: "executor-cloud-b"' in executor
    assert '{ service: "lf.request.chat", accounts: ["app"] }' in site
    assert '{ service: { account: "SITE", subject: "lf.request.chat" } }' in app
    assert '{ stream: { account: "SITE", subject: "lf.exec.cloud.b" } }' in executor
    assert 'subject: "lf.nobody" }, to: "$JS.API.INFO" }' in executor
