"""The backend's request from the client's: a few members replaced, the rest passed as it came."""

import msgspec

from localforge.config import GENERIC, Vendor
from localforge.errors import RequestRefused
from localforge.inference.protocol import Completion
from localforge.inference.vendor_words import say

LOCALFORGE_FIELDS = ("localforge", "preference", "provider")
"""Members that speak to LocalForge; strict providers refuse unknown ones."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_count = msgspec.json.Decoder(int | None)
_encoder = msgspec.json.Encoder()
_TRUE = msgspec.Raw(b"true")
_FALSE = msgspec.Raw(b"false")
_STREAM_OPTIONS = msgspec.Raw(b'{"include_usage":true}')


def build_body(request: Completion, vendor: Vendor = GENERIC) -> tuple[bytes, int]:
    """Return the JSON to send and the number of choices it asks for.

    `model`, `stream` and `stream_options` are set, LocalForge's own members dropped; usage is
    always asked for on a stream.

    Args:
        request: What is to be completed.
        vendor: In whose words to say it.

    Raises:
        RequestRefused: The body is not a JSON object.
    """
    try:
        members = _members.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise RequestRefused(f"the request body is not a JSON object: {exc}") from exc
    for name in LOCALFORGE_FIELDS:
        if name not in vendor.knows:
            members.pop(name, None)
    members["model"] = msgspec.Raw(_encoder.encode(request.upstream))
    if request.stream:
        members["stream"] = _TRUE
        members["stream_options"] = _with_usage(members.get("stream_options"))
    else:
        members["stream"] = _FALSE
        members.pop("stream_options", None)
    say(members, vendor, request.upstream)
    return _encoder.encode(members), _choices(members.get("n"))


def _choices(n: msgspec.Raw | None) -> int:
    try:
        return max(1, _count.decode(n) or 1) if n is not None else 1
    except msgspec.DecodeError:
        return 1  # the backend has its own words for a wrong `n`


def _with_usage(options: msgspec.Raw | None) -> msgspec.Raw:
    if options is None or bytes(options) == b"null":
        return _STREAM_OPTIONS
    try:
        members = _members.decode(options)
    except msgspec.DecodeError as exc:
        raise RequestRefused("`stream_options` must be an object", param="stream_options") from exc
    members["include_usage"] = _TRUE
    return msgspec.Raw(_encoder.encode(members))
