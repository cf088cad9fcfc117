"""What the command line prints."""

import json

import pytest

from localforge.audit.shadow import ShadowComparison
from localforge.cli import audit_shadow, output
from localforge.contracts.cards import ModelCard


def test_json_output_is_one_document(capsys: pytest.CaptureFixture[str]):
    output.print_json({"card": ModelCard(name="m", backend="b", zone="local")})

    assert json.loads(capsys.readouterr().out)["card"]["name"] == "m"


def test_a_table_shows_nothing_as_a_dash_and_numbers_short(capsys: pytest.CaptureFixture[str]):
    output.print_table("Models", ("name", "price"), [("m1", None), ("m2", 0.15), ("m3", 1234567.0)])

    shown = capsys.readouterr().out
    assert "Models" in shown
    assert [
        line.split("│")[2].strip() for line in shown.splitlines() if line.startswith("│ m")
    ] == [
        "-",
        "0.15",
        "1,234,567",
    ]


def test_a_tight_table_of_models_fits_into_a_usual_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    columns = ("model", "zone", "$ in", "$ out", "context", "state", "tok/s")
    name = "Qwen/Qwen2.5-Coder-32B-Instruct"

    output.print_table(
        "Models", columns, [(name, "local", 0.125, 0.6, 131_072, "up", 41.23)], tight=True
    )

    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines if name in line] == [
        [name, "local", "0.125", "0.6", "131072", "up", "41.23"]
    ]


def test_a_name_in_square_brackets_is_shown(capsys: pytest.CaptureFixture[str]):
    audit_shadow._show(ShadowComparison(0.0).finish())

    assert "[router.shadow]" in capsys.readouterr().err


def test_a_failure_is_one_line_and_a_code(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        output.fail("port 8080 on [::1] cannot be used: " + "long " * 60)

    captured = capsys.readouterr()
    assert (caught.value.code, captured.out) == (1, "")
    assert captured.err.startswith("error: port 8080 on [::1] cannot be used: long")
    assert captured.err.count("\n") == 1


def test_brackets_in_a_message_are_no_markup(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        output.fail("list at least one [[backends.models]] with a `name` [/] [red]")

    shown = capsys.readouterr().err
    assert shown == "error: list at least one [[backends.models]] with a `name` [/] [red]\n"
