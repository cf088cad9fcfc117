"""Model cards, merged from the configuration, what a backend says of its models, and public prices.

Each figure by itself: the configuration, else the backend's own word (discovery), else the package
`genai-prices`, else a default. A model on site is free unless something says otherwise, and so is
each token of one that is priced by the hour. A size that nobody says is read off the name; it makes
the guess of a model's quality where the configuration has neither a score nor a guess.
"""

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import NamedTuple

import msgspec

from localforge.config import BackendConfig, ModelConfig, find_vendor
from localforge.contracts.cards import Capability, FoundModel, ModelCard
from localforge.contracts.trust import LOCAL_ZONE
from localforge.errors import ConfigError
from localforge.registry.sizes import prior_of_size, size_in_name

DEFAULT_CONTEXT_TOKENS = 8192
TOKENS_PER_PRICE = 1_000_000
SHORT_TOKENS = 1_000
"""A request of this size is priced: some models cost more per token from 200,000 on."""
_C = Capability
_JSON = frozenset({_C.JSON_OBJECT, _C.JSON_SCHEMA})

CAPABILITIES: dict[str, frozenset[Capability]] = {
    "anthropic": frozenset({_C.TOOLS, _C.VISION, _C.FILES, _C.JSON_SCHEMA, _C.REASONING}),
    "ollama": _JSON | {_C.TOOLS},
    "tgi": _JSON | {_C.TOOLS, _C.LOGPROBS},
    "embedded": _JSON | {_C.LOGPROBS},
}
"""By kind, of a model of which neither the configuration nor the backend says what it can do."""
WIRE: dict[str, frozenset[Capability]] = {
    "ollama": frozenset({_C.SEED}),
    "tgi": frozenset({_C.SEED}),
    "embedded": frozenset({_C.SEED}),
    "recorded": frozenset({_C.SEED}),
}
"""By kind, what the wire format offers with every model; nobody has to list it."""


def cards_of(
    backend: BackendConfig,
    found: Iterable[FoundModel] | None = None,
    taken: Collection[str] = (),
) -> list[ModelCard]:
    """Return the cards of one backend's models.

    Args:
        backend: Its configuration.
        found: What the backend serves; None when it was not asked or does not say.
        taken: Names of other backends' models. A discovered model of such a name is called
            `<backend>/<name>`.

    Raises:
        ConfigError: A configured remote model has no price and none is known, which would make it
            look free. A discovered one is left out.
    """
    served = {model.name: model for model in found or ()}
    cards = []
    for model in backend.models:
        upstream = model.upstream or model.name
        # What is known by several names: `llama3.2` is `llama3.2:latest` to Ollama.
        told = served.get(upstream) or served.get(f"{upstream}:latest")
        card = _card(backend, model, told)
        if card is None:
            raise ConfigError(
                f"backend `{backend.name}`: the price of `{model.name}` is not known; set "
                "`price_in` and `price_out` in US dollars per million tokens (0 for free)"
            )
        cards.append(card)
    if backend.discovers:
        listed = {name for m in backend.models for name in _names(m)}
        for told in served.values():
            if told.name in listed or not _is_name(told.name):
                continue
            name = f"{backend.name}/{told.name}" if told.name in taken else told.name
            model = ModelConfig(name=name, upstream=told.name)
            if (card := _card(backend, model, told)) is not None:
                cards.append(card)
    return cards


def _names(model: ModelConfig) -> tuple[str, str]:
    upstream = model.upstream or model.name
    return upstream, f"{upstream}:latest"


def _is_name(name: str) -> bool:
    """Whether a backend's name can be a model's name here."""
    try:
        msgspec.convert({"name": name}, ModelConfig)
    except msgspec.ValidationError:
        return False
    return True


def _card(backend: BackendConfig, model: ModelConfig, found: FoundModel | None) -> ModelCard | None:
    """Return the card; None when its price is not known."""
    told = found or FoundModel(name=model.upstream or model.name)
    prices = _prices(backend, model, told)
    if prices is None:
        return None
    size = model.parameters_b or told.parameters_b
    for name in (told.weights, told.name, model.name):
        size = size or size_in_name(name)
    guess = model.quality_prior
    if guess is None and model.published_score is None and size is not None:
        guess = prior_of_size(size)
    return ModelCard(
        name=model.name,
        backend=backend.name,
        zone=backend.zone,
        upstream=model.upstream,
        price_in=prices.price_in,
        price_out=prices.price_out,
        price_cached=prices.price_cached,
        price_cache_write=prices.price_cache_write,
        price_cache_write_1h=prices.price_cache_write_1h,
        context_tokens=model.context_tokens
        or told.context_tokens
        or _known_context(backend, told.name)
        or DEFAULT_CONTEXT_TOKENS,
        max_output_tokens=model.max_output_tokens or told.max_output_tokens,
        capabilities=_capabilities(backend, model, told),
        quality_prior=guess,
        published_score=model.published_score,
        enabled=model.enabled,
        usd_per_hour=backend.hourly_usd,
        parameters_b=size,
    )


def _capabilities(
    backend: BackendConfig, model: ModelConfig, told: FoundModel
) -> frozenset[Capability]:
    if backend.kind in ("openai", "vllm"):
        vendor = find_vendor("vllm" if backend.kind == "vllm" else backend.vendor, backend.url)
        default, wire = vendor.capabilities, vendor.wire
        if vendor.reasons(told.name):
            default |= {_C.REASONING}
    else:
        default = CAPABILITIES.get(backend.kind, frozenset())
        wire = WIRE.get(backend.kind, frozenset())
    if model.capabilities:
        return model.capabilities | wire
    return (default if told.capabilities is None else told.capabilities) | wire


def _prices(backend: BackendConfig, model: ModelConfig, told: FoundModel) -> "_Prices | None":
    """Return US dollars per million tokens; None when they are not known."""
    price_in = told.price_in if model.price_in is None else model.price_in
    price_out = told.price_out if model.price_out is None else model.price_out
    known: _Prices | None = _Prices(0.0, 0.0)
    given = _Prices(
        0.0, 0.0, model.price_cached, model.price_cache_write, model.price_cache_write_1h
    )
    if price_in is not None and price_out is not None:
        return given._replace(price_in=price_in, price_out=price_out)
    if backend.zone != LOCAL_ZONE and not backend.is_priced_by_time:
        known = _known_prices(backend, told.name)
    if known is None:
        return None
    # Public prices of cached tokens fit only the public price beside them.
    cache = known[2:] if price_in is None else _NO_CACHE
    return _Prices(
        known.price_in if price_in is None else price_in,
        known.price_out if price_out is None else price_out,
        *(public if own is None else own for public, own in zip(cache, given[2:], strict=True)),
    )


class _Prices(NamedTuple):
    price_in: float
    price_out: float
    price_cached: float | None = None
    price_cache_write: float | None = None
    price_cache_write_1h: float | None = None


_NO_CACHE = (None, None, None)


def _known_prices(backend: BackendConfig, upstream: str) -> _Prices | None:
    # 40 MB and half a second: loaded only by the process that needs a price, once.
    from genai_prices import Usage, calc_price  # noqa: PLC0415

    usages = (
        Usage(input_tokens=SHORT_TOKENS),
        Usage(output_tokens=SHORT_TOKENS),
        Usage(input_tokens=SHORT_TOKENS, cache_read_tokens=SHORT_TOKENS),
        Usage(input_tokens=SHORT_TOKENS, cache_write_tokens=SHORT_TOKENS),
        Usage(
            input_tokens=SHORT_TOKENS,
            cache_write_tokens=SHORT_TOKENS,
            cache_write_1h_tokens=SHORT_TOKENS,
        ),
    )
    scale = TOKENS_PER_PRICE // SHORT_TOKENS
    # Resellers have names and prices of their own; behind an unknown address, a proxy perhaps,
    # the model's own name has to do.
    for address in (backend.url or None, None):
        with suppress(LookupError):
            return _Prices(
                *(
                    float(calc_price(usage, upstream, provider_api_url=address).total_price * scale)
                    for usage in usages
                )
            )
    return None


def _known_context(backend: BackendConfig, upstream: str) -> int:
    """Return the context that `genai-prices` has for a remote model; 0 where it has none.

    A model on site runs with the context it was started with, whatever its makers' is.
    """
    if backend.zone == LOCAL_ZONE:
        return 0
    from genai_prices import Usage, calc_price  # noqa: PLC0415  # as above

    for address in (backend.url or None, None):
        with suppress(LookupError):
            price = calc_price(Usage(input_tokens=1), upstream, provider_api_url=address)
            return price.model.context_window or 0
    return 0
