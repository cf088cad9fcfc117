"""The budgets of API keys, as the router keeps them."""

from collections.abc import Iterable

from localforge.bandit import Eligibility
from localforge.bandit.budget import Spending, exclude_priced
from localforge.bandit.goal import period_of
from localforge.config import KeyConfig
from localforge.errors import RequestRefused


class KeyBudgets:
    """Hard limits on what the requests of a key cost in a period.

    Args:
        keys: The configured ones.
        spending: What they have spent; None when no key has a budget.
    """

    def __init__(self, keys: Iterable[KeyConfig], spending: Spending | None) -> None:
        self._spending = spending
        self._keys = {key.id: key for key in keys if key.budget_usd and spending}

    def apply(self, eligible: Eligibility, key_id: str, now: float) -> tuple[Eligibility, float]:
        """Return what a key may choose from, and the US dollars that are left; 0 means no limit.

        Raises:
            RequestRefused: Status 429, the budget is spent and every eligible model costs.
        """
        key = self._keys.get(key_id)
        if key is None:
            return eligible, 0.0
        left = key.budget_usd - self._spent(key, now)
        if left > 0:
            return eligible, left
        free = exclude_priced(eligible, self._told(key, now))
        if not free.models:
            raise self.exhausted(key_id, now)
        return free, 0.0

    def exhausted(self, key_id: str, now: float) -> RequestRefused:
        """Return the error for a key whose budget leaves no model."""
        key = self._keys[key_id]
        refused = RequestRefused(
            f"{self._told(key, now)}, and no model that may answer is free or fits into what is "
            "left",
            code="budget_exhausted",
            status=429,
        )
        refused.retry_after_s = period_of(key.budget_per, now)[1] - now
        return refused

    def _told(self, key: KeyConfig, now: float) -> str:
        spent = self._spent(key, now)
        told = f"{_plain(spent)} of {_plain(key.budget_usd)} USD this {key.budget_per}"
        return f"key {key.id} has spent {told}"

    def _spent(self, key: KeyConfig, now: float) -> float:
        assert self._spending is not None
        return self._spending.spent_usd(key.id, key.budget_per, now)


def _plain(usd: float) -> str:
    """Return an amount without an exponent, to a millionth of a cent."""
    return f"{usd:.8f}".rstrip("0").rstrip(".")
