"""The checks: what fails, what passes, and where they keep silent."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localforge.contracts.live import EvaluateCall
from localforge.scoring import checks
from localforge.scoring.language import guess
from localforge.scoring.request_view import RequestView, view
from localforge.scoring.verdict import judge

PROSE = (
    "The sea covers most of the planet. Tides rise and fall with the moon, and currents carry "
    "warm water to the north. Fish, whales and birds live from it, and so do many people, who "
    "sail on it, fish in it, and build their towns beside it. Storms form over warm water in "
    "late summer and lose their strength on land."
)


@pytest.mark.parametrize(
    ("answer", "calls", "score"), [("", 0, 0), (" \n", 0, 0), ("a", 0, 1), ("", 1, None)]
)
def test_an_answer_without_text_fails_unless_it_calls_tools(
    answer: str, calls: int, score: float | None
) -> None:
    assert checks.not_empty(answer, calls) == score


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("I'm sorry, but I can't assist with that request.", 0),
        ("I’m sorry, but I cannot help with that.", 0),
        ("As an AI language model, I do not have access to live data.", 0),
        ("I cannot provide medical advice. See a doctor.", 0),
        ("I am unable to answer that.", 0),
        ("I'm sorry for your loss. Here is a letter you could send.", 1),
        ("You can't divide by zero, so the answer is undefined.", 1),
        ("Paris. " + PROSE + " I cannot help loving it.", 1),
        ("", None),
    ],
)
def test_declining_counts_only_where_an_answer_begins_with_it(
    answer: str, score: float | None
) -> None:
    assert checks.not_refused(answer) == score


@pytest.mark.parametrize(
    ("reason", "bounded", "score"),
    [("length", False, 0), ("length", True, None), ("stop", False, 1), ("tool_calls", False, None)],
)
def test_a_cut_counts_only_where_the_client_did_not_ask_for_it(
    reason: str, bounded: bool, score: float | None
) -> None:
    assert checks.not_cut_off(reason, is_bounded=bounded) == score


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        (PROSE, 1),
        (PROSE + " And so it goes on." * 6, 0),
        ("ha " * 100, 0),
        ("The answer is 4. " * 40, 0),
        ("\n".join(f"{i}. item number {i * 7919 % 1000}" for i in range(60)), 1),
        ("| a | b |\n|---|---|\n" + "\n".join(f"| {i} | {i * i} |" for i in range(40)), 1),
        (f"```\n{'-' * 300}\n```\n{PROSE}", 1),
        ("no " * 20, None),
    ],
    ids=["prose", "tail", "word", "sentence", "list", "table", "rule", "short"],
)
def test_loops_are_told_from_lists(answer: str, score: float | None) -> None:
    assert checks.not_looping(answer) == score


SCHEMA = {
    "type": "object",
    "required": ["name", "age"],
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
}


@pytest.mark.parametrize(
    ("answer", "schema", "score"),
    [
        ('{"a":1}', {}, 1),
        ("[1]", {}, 0),
        ("Here is the JSON: {}", {}, 0),
        ('```json\n{"a":1}\n```', {}, 0),
        ('{"a":NaN}', {}, 0),
        ("[" * 100_000, {}, 0),
        ('{"name":"x","age":3}', SCHEMA, 1),
        ('{"name":"x"}', SCHEMA, 0),
        ('{"name":"x","age":"3"}', SCHEMA, 0),
        ('{"name":"x","age":true}', SCHEMA, 0),
        ("[1,2]", {"type": "array"}, 1),
        ('{"a":1}', {"type": ["object", "null"]}, 1),
    ],
)
def test_json_must_be_json_and_have_what_the_schema_requires(
    answer: str, schema: dict[str, Any], score: float
) -> None:
    assert checks.valid_json(answer, RequestView(wants_json=True, schema=schema)) == score


def test_json_is_not_looked_for_where_it_was_not_asked_for() -> None:
    assert checks.valid_json("hello", RequestView()) is None


def block(code: str, language: str = "python") -> str:
    return f"Here you are:\n\n```{language}\n{code}\n```\n\nEnjoy."


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        (block("def f(x):\n    return x + 1"), 1),
        (block("def f(x)\n    return x"), 0),
        (block("    indented = 1\n    more = 2"), 1),
        (block("await fetch()"), 1),
        (block(r"p = '\d'"), 1),
        (block(">>> 1 + 1\n2"), None),
        (block("x = 1\0"), 0),
        (block("(" * 5000 + ")" * 5000), 0),
        (block("x = 1\n" * 5000), None),
        (block('{"a": 1}', "json"), 1),
        (block("{a: 1}", "json"), 0),
        (block("let x = ;", "js"), None),
        (block("x = 1") + block("x ="), 0.5),
        ("no code", None),
    ],
    ids=[
        "good",
        "bad",
        "indented snippet",
        "top-level await",
        "warning",
        "session",
        "nul",
        "deep",
        "huge",
        "json",
        "bad json",
        "unknown language",
        "one of two",
        "none",
    ],
)
def test_code_is_parsed_and_never_run(answer: str, score: float | None) -> None:
    assert checks.parsable_code(answer) == score


QUESTIONS = {
    "en": "What is the capital of France and how many people live in it? Tell me with numbers.",
    "de": "Was ist die Hauptstadt von Frankreich und wie viele Menschen wohnen in der Stadt?",
    "fr": "Quelle est la capitale de la France et combien de gens vivent dans la ville ?",
    "es": "¿Cuál es la capital de Francia y cuánta gente vive en la ciudad? Dime por favor.",
    "cyrillic": "Какой город является столицей Франции и сколько людей там живёт?",
    "han": "法国的首都是哪里?那里有多少人口?请告诉我。",
    "japanese": "フランスの首都はどこですか。人口は何人ですか。",
    "korean": "프랑스의 수도는 어디입니까? 인구는 얼마나 됩니까?",
    "arabic": "ما هي عاصمة فرنسا وكم عدد السكان الذين يعيشون فيها؟",
}


@pytest.mark.parametrize("code", QUESTIONS)
def test_a_sentence_has_a_language(code: str) -> None:
    assert guess(QUESTIONS[code]) == code


@pytest.mark.parametrize("text", ["", "OK", "42", "Paris", "x = y + z", "TCP/IP, HTTP, DNS, TLS"])
def test_too_little_text_has_no_language(text: str) -> None:
    assert guess(text) == ""


@pytest.mark.parametrize(
    ("question", "answer", "score"),
    [
        (QUESTIONS["en"], PROSE, 1),
        (QUESTIONS["de"], PROSE, 0),
        (QUESTIONS["cyrillic"], PROSE, 0),
        (QUESTIONS["en"], QUESTIONS["han"], 0),
        ("Translate to German: " + QUESTIONS["en"], QUESTIONS["de"], None),
        ("Please answer in French. " + QUESTIONS["en"], QUESTIONS["fr"], None),
        ("Into Spanish, please. " + QUESTIONS["en"], QUESTIONS["es"], None),
        ("Where do we begin English lessons? " + QUESTIONS["en"], QUESTIONS["de"], 0),
        ("Is it in Germany? " + QUESTIONS["en"], QUESTIONS["de"], 0),
        (QUESTIONS["han"], QUESTIONS["japanese"], None),
        (QUESTIONS["en"], "Paris.", None),
    ],
)
def test_the_answer_is_in_the_language_of_the_question(
    question: str, answer: str, score: float | None
) -> None:
    assert checks.same_language(answer, question) == score


def test_white_space_alone_is_no_loop_however_it_is_mixed() -> None:
    rng = random.Random(1)
    answer = "".join(rng.choice(" \n\t\r\v\f") for _ in range(300))

    assert checks.not_looping(answer) == 1


@given(st.text(max_size=400), st.text(max_size=400))
def test_no_text_upsets_a_check(answer: str, question: str) -> None:
    scores = [
        checks.not_empty(answer, 0),
        checks.not_refused(answer),
        checks.not_looping(answer),
        checks.parsable_code(answer),
        checks.valid_json(answer, RequestView(wants_json=True, schema={"type": "object"})),
        checks.same_language(answer, question),
    ]
    assert all(score is None or 0 <= score <= 1 for score in scores)


def call(answer: str, finish: str = "stop", tool_calls: int = 0, **body: Any) -> EvaluateCall:
    body = {"messages": [{"role": "user", "content": QUESTIONS["en"]}], **body}
    return EvaluateCall(
        decision_id="d",
        request_id="d",
        model="m",
        body=json.dumps(body).encode(),
        answer=answer,
        finish_reason=finish,
        tool_calls=tool_calls,
    )


def test_an_answer_that_looks_fine_is_weak_evidence() -> None:
    verdict = judge(call(PROSE))

    assert verdict is not None
    assert (verdict.score, verdict.weight) == (1, 0.1)
    assert verdict.checks.keys() == {
        "not_empty",
        "not_refused",
        "not_cut_off",
        "not_looping",
        "same_language",
    }


def test_json_that_was_asked_for_and_given_is_a_little_more() -> None:
    verdict = judge(call('{"capital":"Paris"}', response_format={"type": "json_object"}))

    assert verdict is not None
    assert (verdict.score, verdict.weight) == (1, 0.25)


def test_the_clearest_failure_decides_the_weight() -> None:
    verdict = judge(call("I cannot provide that.", response_format={"type": "json_object"}))

    assert verdict is not None
    assert (verdict.score, verdict.weight) == (0, 0.9)
    assert verdict.checks["not_refused"] == 0


def test_what_the_clients_bound_cut_off_is_not_blamed_for_being_cut() -> None:
    verdict = judge(
        call('{"capital":', "length", max_tokens=5, response_format={"type": "json_object"})
    )

    assert verdict is not None
    assert "valid_json" not in verdict.checks
    assert verdict.score == 1


def test_tool_calls_without_text_are_no_evidence() -> None:
    assert judge(call("", "tool_calls", tool_calls=1)) is None


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages":7}', b"\xff"])
def test_a_request_that_is_not_understood_gives_no_verdict(body: bytes) -> None:
    assert view(body) is None


def test_the_last_question_is_found_among_parts_and_roles() -> None:
    body = {
        "messages": [
            {"role": "user", "content": "old"},
            {"role": "assistant", "content": None, "tool_calls": []},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "new"},
                    {"type": "image_url", "image_url": {"url": "data:"}},
                ],
            },
            {"role": "assistant", "content": "answer"},
        ]
    }
    found = view(json.dumps(body).encode())

    assert found is not None
    assert found.question.strip() == "new"
