"""What is raised when bytes are not the message they should be."""

import re

_QUOTED = re.compile(r"^(Invalid (?:enum )?value) (.+?)( - at `[^`]*`)?$", re.DOTALL)
"""How msgspec tells of a value that is none of those it could be."""
_UNKNOWN = re.compile(r"^(Object contains unknown field) `.*?`( - at `[^`]*`)?$", re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]+")


class ContractViolation(ValueError):  # noqa: N818  # the name says what happened
    """A message does not fit its contract. Never carries the message itself, only field and reason.

    Args:
        contract: Name of the contract that was expected.
        reason: Which field and why, for example ``Expected `float`, got `str` - at `$.score` ``.
    """

    def __init__(self, contract: str, reason: str) -> None:
        super().__init__(f"not a valid {contract}: {reason}")
        self.contract = contract
        self.reason = reason


def reason_of(exc: Exception) -> str:
    """Return what a decoder says is wrong, with the kind of a value in place of the value.

    The text goes into logs and dead letters, and the value may be anything: a prompt, a name. So
    may the name of a member that is not known.
    """
    unknown = _UNKNOWN.match(str(exc))
    if unknown is not None:
        return f"{unknown[1]}{unknown[2] or ''}"
    told = _QUOTED.match(str(exc))
    if told is None:
        return str(exc)
    kind = "number" if _NUMBER.fullmatch(told[2]) else "string"
    return f"{told[1]}, a {kind}{told[3] or ''}"
