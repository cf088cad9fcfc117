"""OpenRouter's `provider` object of a request's body as the rules that the router goes by."""

import msgspec

from localforge.contracts.openrouter import (
    MaxPrice,
    Percentiles,
    ProviderObject,
    ProviderRules,
    Sort,
    WrittenMaxPrice,
)
from localforge.errors import RequestRefused

Written = ProviderObject | msgspec.UnsetType | None


def rules_of(written: Written) -> ProviderRules | None:
    """Return what the object asks for; None where there is none.

    Members that mean nothing here are dropped: `quantizations`, `sort.partition`, and in
    `max_price` the prices per request, image and sound, which no model here has. A backend at
    OpenRouter gets the object of a chat request as it came; one of embeddings goes by the rules
    here alone.

    Raises:
        RequestRefused: It asks for models whose answers others may be trained on, which is not
            known of any: dropping that would make somebody break a licence unawares.
    """
    if not written:
        return None
    if written.enforce_distillable_text:
        raise RequestRefused(
            "`provider.enforce_distillable_text`: it is not known here whose answers others may "
            "be trained on; leave it out and name backends that allow it in `provider.only`",
            code="invalid_value",
            param="provider.enforce_distillable_text",
        )
    sort = written.sort
    return ProviderRules(
        order=written.order,
        only=written.only,
        ignore=written.ignore,
        allow_fallbacks=written.allow_fallbacks,
        require_parameters=written.require_parameters,
        data_collection=written.data_collection,
        zdr=written.zdr,
        sort=sort.by if isinstance(sort, Sort) else sort,
        max_price=_max_price(written.max_price),
        min_tokens_per_s=_typical(written.preferred_min_throughput),
        max_first_token_s=_typical(written.preferred_max_latency),
    )


def _max_price(written: WrittenMaxPrice | None) -> MaxPrice | None:
    if written is None:
        return None
    prompt, completion = written.prompt, written.completion
    return MaxPrice(
        prompt=None if prompt is None else float(prompt),
        completion=None if completion is None else float(completion),
    )


def _typical(wish: float | Percentiles | None) -> float:
    """Return the figure to hold a mean against: the lowest percentile given; 0 for no wish."""
    if isinstance(wish, Percentiles):
        given = (wish.p50, wish.p75, wish.p90, wish.p99)
        return next((value for value in given if value is not None), 0.0)
    return wish or 0.0
