"""The profiler's logic, without a broker."""

import json
import time

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from localforge.config import PolicyConfig
from localforge.contracts.live import ChatCall, Lane, RouteCall
from localforge.contracts.trust import Label
from localforge.errors import RequestRefused
from localforge.features import SCHEMA
from localforge.profiler.service import ProfilerService
from localforge.trust import Sealer, SealVerifier, ZonePolicy

KEY = Ed25519PrivateKey.generate()
NOW = 1_000.0
labels = st.none() | st.sampled_from(Label)


@pytest.fixture(name="service", scope="module")
def _service():
    policy = PolicyConfig()
    return ProfilerService(policy, ZonePolicy(policy, {"local", "eu"}), Sealer(KEY), seal_ttl_s=60)


def call_of(content="hi", **fields):
    body = (
        fields.pop("body", None)
        or json.dumps(
            {"model": "auto", "messages": [{"role": "user", "content": content}]}
        ).encode()
    )
    return ChatCall(
        **{"request_id": "r1", "lane": Lane.LIVE, "body": body, "deadline": NOW + 10} | fields
    )


def turn_of(**members):
    turn = {"role": "assistant", "content": "hi"} | members
    return call_of(body=json.dumps({"model": "auto", "messages": [turn]}).encode())


def test_a_profile_travels_with_the_untouched_call(service):
    call = call_of()

    routed = service.profile(call, NOW)

    assert routed.call is call
    assert RouteCall.decode(routed.encode()) == routed
    assert routed.profile.feature_schema == SCHEMA.name
    assert np.frombuffer(routed.profile.features, "<f2").shape == (SCHEMA.dim,)
    assert routed.profile.label is Label.INTERNAL
    assert routed.profile.zones == ("eu", "local")
    assert routed.profile.findings == ()
    assert routed.profile.profile_s > 0


def test_it_tells_whether_the_caller_has_fixed_the_answer(service):
    messages = [{"role": "user", "content": "hi"}]
    bodies = ({"messages": messages, "seed": 1, "temperature": t} for t in (0, 1))

    profiles = [service.profile(call_of(body=json.dumps(b).encode()), NOW).profile for b in bodies]

    assert [profile.fixed for profile in profiles] == [True, False]


def test_the_seal_covers_body_zones_and_time(service):
    call = call_of()
    seal = service.profile(call, NOW).seal
    verifier = SealVerifier(KEY.public_key())

    verifier.verify(seal, call.body, "eu", "r1", call.deadline + 59)
    with pytest.raises(RequestRefused, match="expired"):
        verifier.verify(seal, call.body, "eu", "r1", call.deadline + 60)
    with pytest.raises(RequestRefused, match="zone"):
        verifier.verify(seal, call.body, "us", "r1", NOW)


def test_sensitive_content_is_sealed_for_this_site_only(service):
    routed = service.profile(call_of("my password is Tr0ub4dor"), NOW)

    assert routed.profile.label is Label.RESTRICTED
    assert routed.profile.findings == ("password",)
    assert routed.profile.zones == routed.seal.zones == ("local",)
    assert "Tr0ub4dor" not in str(msgspec.to_builtins(routed.profile))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:,x"}},
        {"type": "image_url", "image_url": {"url": "da\nta:image/png;base64,iVBORw0K"}},
        {"type": "image_url", "image_url": {"url": "iVBORw0K"}},
        {"type": "input_image", "image_url": "file:///tmp/a.png"},
        {"type": "input_image", "file_id": "f1"},
        {"type": "input_audio", "input_audio": {"data": "UklGRg", "format": "wav"}},
        {"type": "file", "file": {"file_data": "JVBERi0"}},
        {"type": "input_file", "file_id": "f1"},
        {"type": "document", "source": {"data": "JVBERi0"}},
        {"type": "video", "video": "AAAAIGZ0"},
        {"type": "tool_result", "content": [{"type": "image", "source": {"data": "iVBORw0K"}}]},
        {"type": "x_scan", "text": "what is it"},
        {"type": "text", "text": "see", "file": {"file_data": "JVBERi0"}},
    ],
)
def test_a_part_that_nobody_can_look_into_is_confidential(service, part):
    profile = service.profile(call_of([{"type": "text", "text": "What is it?"}, part]), NOW).profile

    assert profile.findings == ("opaque_content",)
    assert profile.label is Label.CONFIDENTIAL


@pytest.mark.parametrize(
    "members",
    [
        {"thinking_blocks": [{"type": "document", "source": {"data": "JVBERi0"}}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "source": {"data": "J"}}]},
        {"thinking_blocks": [{"type": ["thinking"]}]},
        {"thinking_blocks": {"type": "thinking"}},
        {"images": ["iVBORw0K"]},
        {"image": "iVBORw0K"},
        {"audio": {"id": "audio_1"}},
        {"video": "AAAAIGZ0"},
        {"file": {"file_data": "JVBERi0"}},
        {"content": [{"type": "text", "text": "hi", "images": ["iVBORw0K"]}]},
        {"content": [{"type": "text", "text": "hi", "image": "iVBORw0K"}]},
        {"content": [{"type": "text", "text": "hi", "video": "AAAAIGZ0"}]},
    ],
)
def test_a_turn_with_what_nobody_can_look_into_is_confidential(service, members):
    profile = service.profile(turn_of(**members), NOW).profile

    assert profile.findings == ("opaque_content",)


def test_media_that_is_not_there_is_no_opaque_content(service):
    assert service.profile(turn_of(audio=None, annotations=[]), NOW).profile.findings == ()


def test_thoughts_are_no_opaque_content(service):
    thoughts = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
    ]

    assert service.profile(turn_of(thinking_blocks=thoughts), NOW).profile.findings == ()


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "HTTPS://example.com/a.png"}},
        {"type": "refusal", "refusal": "No."},
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
    ],
    ids=lambda part: part["type"],
)
def test_text_and_an_image_on_the_web_are_no_opaque_content(service, part):
    assert service.profile(call_of([part]), NOW).profile.findings == ()


@given(labels, labels, st.sampled_from(["hi", "mail bob@acme.io", "password: hunter2"]))
def test_neither_caller_nor_key_can_lower_a_label(service, declared, minimum, content):
    found = service.profile(call_of(content), NOW).profile
    both = service.profile(
        call_of(content, declared_label=declared, minimum_label=minimum), NOW
    ).profile

    wanted = max(found.label.rank, *(label.rank for label in (declared, minimum) if label), 0)
    assert both.label.rank == wanted
    assert set(both.zones) <= set(found.zones)


def test_the_durable_lane_is_patient(service):
    live = service.profile(call_of(), NOW).profile.latency_tolerance
    durable = service.profile(call_of(lane=Lane.DURABLE), NOW).profile.latency_tolerance

    assert live < durable


@pytest.mark.parametrize("deadline", [NOW, NOW - 5, float("nan")])
def test_a_late_request_is_refused(service, deadline):
    with pytest.raises(RequestRefused) as refusal:
        service.profile(call_of(deadline=deadline), NOW)

    assert refusal.value.status == 504
    assert refusal.value.code == "deadline_exceeded"


def test_a_wrong_body_is_refused_with_the_field(service):
    with pytest.raises(RequestRefused) as refusal:
        service.profile(call_of(body=b'{"messages": []}'), NOW)

    assert refusal.value.param == "messages"


def test_forty_times_the_text_takes_far_less_than_forty_times_as_long(service):
    def best_of_five(content):
        call, durations = call_of(content), []
        for _ in range(5):
            start = time.perf_counter()
            service.profile(call, NOW)
            durations.append(time.perf_counter() - start)
        return min(durations)

    text = "Please compare the two contracts and list what changed between them. "

    assert best_of_five(text * 440) < 30 * best_of_five(text * 11)


def test_no_heavy_package_is_loaded():
    """Start-up time and memory: training's packages and wordllama's own stay out."""
    import subprocess
    import sys

    program = (
        "import sys; import localforge.profiler.service; from localforge.features import SCHEMA; "
        "print([m for m in ('scipy', 'sklearn', 'pandas', 'wordllama', 'pydantic', 'requests') "
        "if m in sys.modules])"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize(
    "name",
    ["max_tokens", "max_completion_tokens", "n", "temperature", "top_p", "presence_penalty"],
)
def test_a_number_beyond_all_bounds_is_refused(service, name, sign):
    number = f"{sign}1{'0' * 400}"
    body = f'{{"messages":[{{"role":"user","content":"hi"}}],"{name}":{number}}}'.encode()

    with pytest.raises(RequestRefused) as caught:
        service.profile(call_of(body=body), NOW)

    assert caught.value.param == name


@pytest.mark.parametrize(
    "member",
    ['"seed":%s', '"top_k":%s', '"thinking":{"type":"enabled","budget_tokens":%s}', '"x":%s'],
)
def test_a_number_beyond_all_bounds_that_is_the_backends_to_refuse_goes_on(service, member):
    number = f"1{'0' * 400}"
    body = f'{{"messages":[{{"role":"user","content":"hi"}}],{member % number}}}'.encode()

    assert service.profile(call_of(body=body), NOW).encode()
