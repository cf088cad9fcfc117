"""The `type` of an error says whose fault it is, as its status does."""

import pytest

from localforge.bandit.eligible import refuse_unread
from localforge.errors import (
    BackendRefused,
    BackendUnavailable,
    ContractError,
    DeadlineExceeded,
    LocalforgeError,
    Overloaded,
    RequestRefused,
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RequestRefused("no"), "invalid_request_error"),
        (RequestRefused("no", status=401), "invalid_request_error"),
        (RequestRefused("no", status=403), "permission_error"),
        (RequestRefused("no", status=404), "invalid_request_error"),
        (RequestRefused("no", status=429), "rate_limit_error"),
        (RequestRefused("no", status=503), "api_error"),
        (RequestRefused("no", status=504), "timeout_error"),
        (BackendRefused("no", status=422), "invalid_request_error"),
        (BackendRefused("no", status=429), "rate_limit_error"),
        (ContractError("no"), "invalid_request_error"),
        (DeadlineExceeded("no"), "timeout_error"),
        (BackendUnavailable("no"), "api_error"),
        (Overloaded("no"), "api_error"),
        (LocalforgeError("no"), "api_error"),
        (refuse_unread(), "api_error"),
    ],
)
def test_the_type_follows_from_the_status(error: LocalforgeError, kind: str):
    assert error.as_api_error().type == kind
