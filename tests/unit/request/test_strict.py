"""What an application asks over NATS, of which nothing may be passed over."""

import msgspec
import pytest

from localforge.contracts.chat import ChatRequested
from localforge.contracts.problems import ContractViolation
from localforge.request.strict import StrictChatRequested

BODY = b'{"model":"auto","messages":[],"Label":"any member of the body"}'


def _message(**members: object) -> bytes:
    asked = {"type": "chat_requested.v1", "id": "a", "request": msgspec.Raw(BODY), **members}
    return msgspec.json.encode(asked)


@pytest.mark.parametrize("name", ["Label", "minimum_label", "labels", "x", "my diagnosis: flu"])
def test_an_unknown_member_is_refused_and_not_repeated(name: str):
    with pytest.raises(ContractViolation, match="unknown field; known are ") as refused:
        StrictChatRequested.decode(_message(**{name: "restricted"}))

    assert refused.value.contract == "ChatRequested"
    assert f"`{name}`" not in str(refused.value)


def test_what_has_known_members_only_is_read_as_ever():
    message = _message(label="restricted", preference="cheap")

    assert StrictChatRequested.decode(message).encode() == ChatRequested.decode(message).encode()


def test_other_faults_are_told_as_ever():
    with pytest.raises(ContractViolation, match="`label` is there more than once"):
        StrictChatRequested.decode(_message()[:-1] + b',"label":"public","label":"public"}')
