"""Decode a request's body, and say precisely what is wrong with a bad one."""

import re
from typing import TypeVar

import msgspec

from localforge.contracts.repeated import Once
from localforge.errors import RequestRefused

T = TypeVar("T")

_WISHES = Once("localforge", "provider", within=True)
_PATH = re.compile(r" - at `\$\.?(.*)`$")
_REGEX = re.compile(r"Expected `str` matching regex '.*'")
_MISSING = re.compile(r"missing required field `(\w+)`")


def read(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a body.

    A body that has members named `localforge` or `provider` is looked at once more, for a
    repetition that would take back a wish. What is decoded must have `msgspec.UNSET` as the default
    of these members, so that all others cost nothing.

    Raises:
        RequestRefused: With OpenAI's `param` and one of the codes `invalid_json`, `invalid_type`,
            `invalid_value` and `missing_required_parameter`.
    """
    try:
        # msgspec skips over strings it does not need without looking at their bytes.
        if not body.isascii():
            body.decode()
        found = decoder.decode(body)
        unset = msgspec.UNSET
        if (
            getattr(found, "localforge", unset) is not unset
            or getattr(found, "provider", unset) is not unset
        ) and (again := _WISHES.repeated(body)):
            raise _repeated(again)
    except msgspec.ValidationError as exc:
        raise _invalid(str(exc)) from exc
    except UnicodeDecodeError as exc:
        raise _malformed(f"byte {exc.start} is not valid UTF-8") from exc
    except RecursionError as exc:
        raise _malformed("nested too deeply") from exc
    except msgspec.DecodeError as exc:
        raise _malformed("it is empty" if not body else str(exc)) from exc
    return found


def _repeated(path: str) -> RequestRefused:
    return RequestRefused(
        f"`{path}` is there more than once; send it once", code="invalid_value", param=path
    )


def _malformed(reason: str) -> RequestRefused:
    return RequestRefused(f"the request body is not valid JSON: {reason}", code="invalid_json")


def _invalid(reason: str) -> RequestRefused:
    at = _PATH.search(reason)
    path = at[1] if at else ""
    missing = _MISSING.search(reason)
    if missing:
        param = f"{path}.{missing[1]}" if path else missing[1]
        return RequestRefused(
            f"`{param}` is missing", code="missing_required_parameter", param=param
        )
    what = _REGEX.sub("not of the form that it has here (see /openapi.json)", _PATH.sub("", reason))
    code = "invalid_type" if ", got `" in what else "invalid_value"
    message = f"`{path}`: {what}" if path else f"the request body: {what}"
    return RequestRefused(message, code=code, param=path or None)
