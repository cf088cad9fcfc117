"""OpenRouter's `provider` object, as far as it is understood here.

`ProviderRules` travels inside LocalForge and ignores what it does not know, as every contract does.
`ProviderObject` is what a client may write: every member that OpenRouter documents, of which some
change nothing here. Any other is an error, because a wish that is silently dropped may be one about
privacy. `localforge.request.provider` turns the one into the other.
"""

from typing import Annotated, Literal

import msgspec

Names = tuple[str, ...]
Price = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
SortBy = Literal["price", "throughput", "latency"]
WrittenPrice = Price | Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,12}(\.[0-9]{1,12})?$")]
"""OpenRouter takes a price as a number and as text."""


class MaxPrice(msgspec.Struct, frozen=True, omit_defaults=True):
    """US dollars per million tokens; None means no limit."""

    prompt: Price | None = None
    completion: Price | None = None


class ProviderRules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a request says about who may answer. A name in a list is that of a backend or a zone."""

    order: Names | None = None
    """Whom to ask first; the others come after, unless `allow_fallbacks` is false."""
    only: Names | None = None
    ignore: Names | None = None
    allow_fallbacks: bool | None = None
    require_parameters: bool | None = None
    """What a request needs is always required of a model, whatever this says."""
    data_collection: Literal["allow", "deny"] | None = None
    """`deny`: only the local zone, of which alone it is known that nobody else keeps anything."""
    zdr: bool | None = None
    """Zero data retention: as `data_collection` `deny`."""
    sort: SortBy | None = None
    """A preference: `cheap` for `price`, `fast` for the others."""
    max_price: MaxPrice | None = None
    min_tokens_per_s: float = 0.0
    """Backends known to be slower come after the others; 0 means no wish."""
    max_first_token_s: float = 0.0
    """Backends known to begin later come after the others; 0 means no wish."""


class Sort(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`sort` as an object."""

    by: SortBy
    partition: Literal["model", "none"] | None = None
    """No effect: what is chosen here is always among all models that may answer."""


class Percentiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A wish for single percentiles; what is known here is a mean."""

    p50: Positive | None = None
    p75: Positive | None = None
    p90: Positive | None = None
    p99: Positive | None = None


class WrittenMaxPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`max_price` as a client writes it. Nothing here has a price per request, image or sound."""

    prompt: WrittenPrice | None = None
    completion: WrittenPrice | None = None
    request: WrittenPrice | None = None
    image: WrittenPrice | None = None
    audio: WrittenPrice | None = None


class ProviderObject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The member `provider` of a request's body; `ProviderRules` says what most of it means."""

    order: Names | None = None
    only: Names | None = None
    ignore: Names | None = None
    allow_fallbacks: bool | None = None
    require_parameters: bool | None = None
    data_collection: Literal["allow", "deny"] | None = None
    zdr: bool | None = None
    enforce_distillable_text: bool | None = None
    """True is refused: it is not known here whose answers others may be trained on."""
    quantizations: Names | None = None
    """No effect: it is not known here how a model's weights are stored."""
    sort: SortBy | Sort | None = None
    preferred_min_throughput: Positive | Percentiles | None = None
    """Tokens per second."""
    preferred_max_latency: Positive | Percentiles | None = None
    """Seconds to the first token."""
    max_price: WrittenMaxPrice | None = None
