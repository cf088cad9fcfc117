"""Cards are merged figure by figure: configuration, then discovery, then public prices."""

from typing import Any

import pytest

from localforge.config import BackendConfig, ModelConfig
from localforge.contracts.cards import Capability, FoundModel
from localforge.errors import ConfigError
from localforge.registry import cards_of
from localforge.registry.sizes import prior_of_size

C = Capability
FOUND = FoundModel(
    name="gpt-4o-mini",
    context_tokens=1000,
    max_output_tokens=100,
    capabilities=frozenset({C.VISION}),
    price_in=7.0,
    price_out=8.0,
)


def backend(*models: ModelConfig, **more: Any) -> BackendConfig:
    settings = {"kind": "vllm", "zone": "cloud", "url": "http://gpu/v1", **more}
    return BackendConfig(name="b", models=models, **settings)


def test_the_configuration_comes_before_what_the_backend_says() -> None:
    model = ModelConfig(
        name="mine",
        upstream="gpt-4o-mini",
        price_in=1,
        context_tokens=50,
        capabilities=frozenset({C.TOOLS}),
    )

    [card] = cards_of(backend(model), [FOUND])

    assert (card.price_in, card.price_out) == (1, 8.0)
    assert (card.context_tokens, card.max_output_tokens) == (50, 100)
    assert card.capabilities == {C.TOOLS, C.SEED, C.N}


def test_what_the_backend_says_comes_before_public_prices() -> None:
    [card] = cards_of(backend(ModelConfig(name="gpt-4o-mini")), [FOUND])

    assert (card.price_in, card.price_out, card.context_tokens) == (7.0, 8.0, 1000)
    assert C.VISION in card.capabilities


def test_public_prices_and_context_fill_what_nobody_says() -> None:
    [card] = cards_of(
        backend(ModelConfig(name="gpt-4o-mini"), kind="openai", url="https://api.openai.com/v1")
    )

    assert 0 < card.price_in < card.price_out
    assert card.price_cached is not None
    assert 0 < card.price_cached < card.price_in
    assert card.context_tokens == 128_000
    assert C.REASONING not in card.capabilities


def test_a_configured_model_without_any_price_is_refused_and_a_discovered_one_left_out() -> None:
    unknown = FoundModel(name="nobody-knows-it")

    with pytest.raises(ConfigError, match="nobody-knows-it"):
        cards_of(backend(ModelConfig(name="nobody-knows-it")))
    assert cards_of(backend(), [unknown, FOUND])[0].name == "gpt-4o-mini"


def test_a_model_priced_by_time_costs_no_tokens() -> None:
    settings = {"usd_per_hour": 2.0, "watts": 500, "usd_per_kwh": 0.2}

    [card] = cards_of(backend(ModelConfig(name="nobody-knows-it"), **settings))

    assert (card.price_in, card.price_out) == (0.0, 0.0)
    assert card.usd_per_hour == pytest.approx(2.1)


def test_a_model_on_site_is_free_and_runs_with_the_context_it_was_given() -> None:
    [card] = cards_of(backend(ModelConfig(name="gpt-4o-mini"), zone="local"))

    assert (card.price_in, card.price_out, card.context_tokens) == (0.0, 0.0, 8192)


@pytest.mark.parametrize(
    ("model", "told", "size"),
    [
        ({"parameters_b": 3.0}, {"parameters_b": 8.03}, 3.0),
        ({}, {"parameters_b": 46.7, "weights": "m/other-13b"}, 46.7),
        ({}, {"weights": "mistralai/Mixtral-8x7B"}, 56.0),
        ({"upstream": "qwen:72b"}, {}, 72.0),
        ({}, {}, 7.0),
    ],
)
def test_a_size_is_the_configured_one_then_the_backends_then_what_the_names_tell(
    model: dict[str, Any], told: dict[str, Any], size: float
) -> None:
    configured = ModelConfig(name="mine-7b", **model)
    found = FoundModel(name=model.get("upstream", "mine-7b"), **told)

    [card] = cards_of(backend(configured, zone="local"), [found])

    assert card.parameters_b == size
    assert card.quality_prior == prior_of_size(size)


def test_a_size_says_nothing_where_a_score_or_a_guess_is_configured() -> None:
    scored = ModelConfig(name="scored-7b", published_score=0.8)
    guessed = ModelConfig(name="guessed-7b", quality_prior=0.9)
    unknown = ModelConfig(name="nobody-knows-it")

    cards = cards_of(backend(scored, guessed, unknown, zone="local"))

    assert [card.quality_prior for card in cards] == [None, 0.9, None]
    assert [card.parameters_b for card in cards] == [7.0, 7.0, None]


def test_discovered_models_take_nobodys_name() -> None:
    found = [FoundModel(name=name) for name in ("llama3.2:latest", "qwen3:4b", "bad name")]
    ollama = backend(
        ModelConfig(name="small", upstream="llama3.2"), kind="ollama", zone="local", discover=True
    )

    cards = cards_of(ollama, found, taken={"qwen3:4b"})

    assert [(card.name, card.upstream_name) for card in cards] == [
        ("small", "llama3.2"),
        ("b/qwen3:4b", "qwen3:4b"),
    ]


def test_what_is_listed_is_all_there_is_unless_more_is_asked_for() -> None:
    listed = backend(ModelConfig(name="one", price_in=0, price_out=0))

    assert [card.name for card in cards_of(listed, [FOUND])] == ["one"]


@pytest.mark.parametrize(
    ("kind", "lacking"),
    [
        ("anthropic", {C.N, C.SEED, C.JSON_OBJECT, C.LOGPROBS, C.AUDIO}),
        ("ollama", {C.N, C.LOGPROBS, C.AUDIO}),
        ("recorded", {C.TOOLS, C.VISION, C.JSON_OBJECT, C.N}),
        ("tgi", {C.VISION, C.AUDIO}),
    ],
)
def test_what_a_kind_cannot_do_is_not_on_its_cards(kind: str, lacking: set[Capability]) -> None:
    [card] = cards_of(backend(ModelConfig(name="m", price_in=0, price_out=0), kind=kind))

    assert not card.capabilities & lacking
