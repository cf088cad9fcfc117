"""What applications ask over NATS, read so that nothing which they ask for is passed over."""

from typing import Self

from localforge.contracts.chat import ChatRequested
from localforge.contracts.problems import ContractViolation


class StrictChatRequested(
    ChatRequested, frozen=True, kw_only=True, tag="chat_requested.v1", forbid_unknown_fields=True
):
    """A `ChatRequested` without unknown members; one of them may be a label, misspelt.

    Only for whoever takes it from the application: contracts grow, and all other readers pass over
    what is newer than they are.
    """

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read one request.

        Raises:
            ContractViolation: It is none, or it has an unknown member; says which are known.
        """
        try:
            return super().decode(data)
        except ContractViolation as exc:
            reason = exc.reason
            if "unknown field" in reason:
                known = ", ".join(f"`{name}`" for name in ("type", *cls.__struct_fields__))
                reason = f"{reason}; known are {known}"
            raise ContractViolation(ChatRequested.__name__, reason) from exc
