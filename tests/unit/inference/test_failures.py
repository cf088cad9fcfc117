"""What a backend's status and words mean for the request."""

import msgspec
import pytest

from localforge.errors import BackendRefused, BackendUnavailable
from localforge.inference.failures import (
    MAX_RETRY_AFTER_S,
    from_status,
    retry_after,
    without_key,
)


@pytest.mark.parametrize("status", [301, 401, 402, 403, 404, 408, 409, 425, 429, 500, 503, 529])
def test_another_model_may_answer_when_the_backend_is_at_fault(status: int) -> None:
    error = from_status(status, {}, b'{"error":{"message":"key sk-secret"}}')

    assert isinstance(error, BackendUnavailable)
    assert "sk-secret" not in error.message
    assert str(status) in error.message


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_refusal_is_passed_on_with_its_status(status: int) -> None:
    error = from_status(status, {}, b'{"error":{"message":"bad n","code":"x","param":"n"}}')

    assert isinstance(error, BackendRefused)
    assert (error.status, error.message, error.code, error.param) == (status, "bad n", "x", "n")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("Context_Length.Exceeded-1", "context_length.exceeded-1"),
        (400, "400"),
        (None, "backend_refused"),
        ("", "backend_refused"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "backend_refused"),
        ("your prompt `secret`", "backend_refused"),
        ({"a": 1}, "backend_refused"),
        ("line\n", "backend_refused"),
    ],
)
def test_a_code_is_a_short_name_or_none_of_the_servers(given: object, code: str) -> None:
    body = msgspec.json.encode({"error": {"message": "no", "code": given}})

    assert from_status(400, {}, body).code == code


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":"plain"}', "plain"),
        (b'{"message":"top"}', "top"),
        (b'{"detail":"fastapi"}', "fastapi"),
        (b'{"error":{"message":null,"code":400}}', "the model server answered HTTP 400"),
        (b"<html>", "the model server answered HTTP 400"),
        (b"\xff\xfe", "the model server answered HTTP 400"),
    ],
)
def test_words_are_found_wherever_a_server_puts_them(body: bytes, message: str) -> None:
    assert str(from_status(400, {}, body)) == message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 1.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "1e9"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "nan"}, 1.0),
        ({"retry-after": "soon"}, 1.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 1.0),
        (
            {
                "retry-after": "Wed, 21 Oct 2015 07:28:00 GMT",
                "date": "Wed, 21 Oct 2015 07:27:30 GMT",
            },
            30.0,
        ),
    ],
    ids=[
        "none",
        "seconds",
        "fraction",
        "negative",
        "years",
        "nan",
        "words",
        "a date against no clock",
        "a date against the server's own wrong clock",
    ],
)
def test_retry_after_is_bounded_and_not_fooled(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers) == seconds
    assert from_status(429, headers, b"").retry_after_s == seconds


@pytest.mark.parametrize(
    ("text", "api_key", "shown"),
    [
        ("key SK-Abcdef1234, sk-abcdef1234.", "sk-abcdef1234", "key ***, ***."),
        ("cut off: sk-abcdef1", "sk-abcdef1234", "cut off: ***"),
        ("a.c is not abc", "a.c*", "a.c is not abc"),
        ("the model x", "x", "the model x"),
        ("no key", "", "no key"),
    ],
)
def test_a_key_is_hidden_in_any_case_and_where_the_words_are_cut_off(
    text: str, api_key: str, shown: str
) -> None:
    assert without_key(text, api_key) == shown
