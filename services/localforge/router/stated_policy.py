"""The decision rule of one request: what it names, else what is configured."""

from localforge.bandit.parameters import VERSION
from localforge.bandit.policies import POLICIES
from localforge.bandit.rules import RULES, STATIC
from localforge.config import RouterConfig
from localforge.errors import RequestRefused


def policy_of(stated: str, config: RouterConfig) -> str:
    """Return the policy as records name it, `matching.v5`.

    Args:
        stated: By the request or its key; empty means the configured one.
        config: The `router` section. How much a policy explores is always as configured there.

    Raises:
        RequestRefused: There is no such policy, or the configuration appoints nothing for it.
    """
    name = stated or config.policy
    if name not in POLICIES:
        raise RequestRefused(
            f"`policy` must be one of {', '.join(POLICIES)}; got {name[:64]!r}",
            code="invalid_value",
            param="policy",
        )
    appointed = {STATIC: config.static, RULES: config.rules}
    if stated and not appointed.get(stated, True):
        raise RequestRefused(
            f"`policy` is {stated!r}, but `router.{stated}` of the configuration names no model; "
            "name another policy, or none",
            code="invalid_value",
            param="policy",
        )
    return f"{name}.{VERSION}"
