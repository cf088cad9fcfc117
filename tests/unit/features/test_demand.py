"""What a request demands."""

import pytest

from localforge.contracts.cards import Capability
from localforge.features import FeatureExtractor
from localforge.features.cues import cues_of
from localforge.features.demand import is_fixed

HI = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.fixture(name="observe", scope="module")
def _observe():
    extractor = FeatureExtractor()
    return lambda durable=False, **fields: extractor.observe(
        {"messages": [HI]} | fields, durable=durable
    )


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, set()),
        ({"tools": [TOOL]}, {Capability.TOOLS}),
        ({"functions": [{"name": "f"}]}, {Capability.TOOLS}),
        ({"tools": [TOOL], "tool_choice": "none"}, set()),
        ({"tools": []}, set()),
        ({"response_format": {"type": "text"}}, set()),
        ({"response_format": {"type": "json_object"}}, {Capability.JSON_OBJECT}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            {Capability.JSON_SCHEMA},
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            {Capability.VISION},
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            {Capability.AUDIO},
        ),
        ({"modalities": ["text", "audio"]}, {Capability.AUDIO}),
        ({"logprobs": True}, {Capability.LOGPROBS}),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]},
            {Capability.FILES},
        ),
        ({"n": 1}, set()),
        ({"n": 2}, {Capability.N}),
        ({"seed": 0}, {Capability.SEED}),
        ({"reasoning_effort": "high"}, {Capability.REASONING}),
        ({"reasoning_effort": "none"}, set()),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {Capability.REASONING}),
        ({"thinking": {"type": "adaptive"}}, set()),
        ({"thinking": {"type": "disabled"}}, set()),
    ],
)
def test_needs_follow_from_the_fields(observe, fields, needs):
    assert observe(**fields).needs == needs


@pytest.mark.parametrize(
    ("fields", "fixed"),
    [
        ({}, False),
        ({"seed": 0}, False),
        ({"temperature": 0}, False),
        ({"seed": 0, "temperature": 0.0}, True),
        ({"seed": 1, "temperature": 0.5}, False),
        ({"seed": None, "temperature": 0}, False),
    ],
)
def test_a_seed_and_temperature_zero_together_fix_the_answer(fields, fixed):
    assert is_fixed(fields) is fixed


def test_a_streaming_reader_is_less_patient_than_a_batch(observe):
    stream = observe(stream=True).latency_tolerance
    whole = observe().latency_tolerance
    durable = observe(durable=True).latency_tolerance
    flex = observe(stream=True, service_tier="flex").latency_tolerance

    assert stream < whole < durable < flex


def test_the_newer_token_bound_wins(observe):
    assert observe(max_tokens=5).max_tokens == 5
    assert observe(max_tokens=5, max_completion_tokens=7).max_tokens == 7
    assert observe().max_tokens == 0


def test_a_last_message_from_a_tool_is_a_tool_loop(observe):
    call = {"role": "assistant", "tool_calls": [{"id": "1"}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "42"}

    assert observe(messages=[HI, call, result]).in_tool_loop
    assert not observe(messages=[HI, call, result, HI]).in_tool_loop
    assert observe(messages=[HI, call, result]).turns == 3


def test_a_proof_looks_harder_than_a_greeting(observe):
    proof = "Prove the theorem step by step, compare it with the algorithm and evaluate both. " * 10

    assert observe(messages=[{"role": "user", "content": proof}]).complexity > 0.5
    assert observe().complexity < 0.2
    assert observe(reasoning_effort="high").complexity > observe().complexity


def test_cues_are_counted_once_in_any_case_and_at_the_start_too():
    cues = cues_of("Prove it: the PROOF is to prove. import os\nIMPORT re; improve")

    assert cues.effort == 2
    assert cues.code == 1
