"""Passwords and secrets as people write them down, and talk of them."""

import json

import msgspec
import pytest

from localforge.trust import detect


def codes(body):
    return set(detect(msgspec.json.encode(body)).findings)


@pytest.mark.parametrize(
    "written",
    [
        "password:  hunter22",
        "Password:\nhunter22",
        "**Password:** hunter22",
        "`password`: `hunter22`",
        "| password | hunter22 |",
        "| user | password |\n|---|:---:|\n| bob | hunter22! |",
        "user | password | role\n--- | --- | ---\nbob | `hunter22` | admin",
        "Password\n--------\nhunter22",
        "<password>hunter22</password>",
        "<db_password>\n    swordfish\n</db_password>",
        "mysql -u root --password hunter22",
        "machine db login bob password hunter22",
        "ALTER USER bob IDENTIFIED BY 'swordfish'",
        'CREATE USER bob@"%" IDENTIFIED BY PASSWORD "swordfish"',
        "password: |\n  hunter22",
        "password: >-\n  hunter22",
        "Das Passwort lautet: hunter22",
        "Authorization: Basic Ym9iOmh1bnRlcjI=",
    ],
)
def test_a_password_is_found_as_people_write_it_down(written):
    assert codes({"a": written}) == {"password"}
    assert codes({"a": json.dumps({"text": written})}) == {"password"}


@pytest.mark.parametrize(
    "written",
    [
        "<client_secret>a8f5f167f44f4964e6c998dee827110c</client_secret>",
        "client secret:  a8f5f167f44f4964e6c998dee827110c",
        "**API key:** a8f5f167f44f4964e6c998dee827110c",
        "| api key | a8f5f167f44f4964e6c998dee827110c |",
    ],
)
def test_a_secret_is_found_as_people_write_it_down(written):
    assert codes({"a": written}) == {"api_key"}


@pytest.mark.parametrize(
    "harmless",
    [
        "password: what is a good one?",
        "the password field",
        "Password:\n1. Use a long one\n2. Do not write it down",
        "Password rules:\n- 8 characters\n- 1 digit",
        "password:\n8-16 characters",
        "Reset your password:\nhttps://intranet/reset1",
        "| password | VARCHAR2 | not null |",
        "| column | type |\n|---|---|\n| password | string |",
        "| password | role |\n|---|---|\n| required | admin1 |",
        "<label>Password</label> step1",
        '<input type="password">Option1',
        "<password>${DB_PASSWORD1}</password>",
        "if (password == password2) { return check1(password2); }",
        "store password -> sha256 -> base64",
        "pass --password <value> or --password $PASS1",
        "each user is identified by 'user_id2'",
        "Basic authentication, basic programming1 and Basic lessons",
        "secret | 2024-01-01 | a name",
        "token:\n\nclaude-3-5-sonnet-20241022 counts them",
        "The max token   is read_from_the_configuration1",
    ],
)
def test_talk_of_passwords_is_left_alone(harmless):
    assert codes({"messages": [{"role": "user", "content": harmless}]}) == set()
