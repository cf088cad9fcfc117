"""`chat`, `route` and `feedback`: use a running LocalForge from a terminal."""

import sys
from typing import Annotated, Any

import typer

from localforge.cli.connection import ConfigOption, JsonOption, call, load_config, stream
from localforge.cli.explain import show_explanation, show_headline
from localforge.cli.output import console, print_json
from localforge.errors import RequestRefused

ModelOption = Annotated[str, typer.Option("--model", "-m", help="auto, an alias or a model name.")]
PreferenceOption = Annotated[
    str, typer.Option("--prefer", "-p", help="quality, balanced, cheap or fast.")
]
PolicyOption = Annotated[
    str, typer.Option("--policy", help="How it is chosen: a name that router.policy may have.")
]
LabelOption = Annotated[
    str, typer.Option("--label", help="public, internal, confidential or restricted.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(chat)
    app.command()(route)
    app.command()(feedback)


def chat(
    prompt: Annotated[str, typer.Argument(help="What to ask; - reads standard input.")],
    model: ModelOption = "auto",
    prefer: PreferenceOption = "",
    policy: PolicyOption = "",
    label: LabelOption = "",
    max_tokens: Annotated[int, typer.Option(help="Bound on the answer.", min=1)] = 256,
    config: ConfigOption = None,
    json_: JsonOption = False,
) -> None:
    """Ask one question and stream the answer.

    Example: localforge chat "Write a haiku about routers" --prefer cheap
    """
    settings = load_config(config)
    body = _body(prompt, model, preference=prefer, policy=policy, label=label)
    body |= {"max_tokens": max_tokens}
    if json_:
        print_json(call(settings, "POST", "/v1/chat/completions", body))
        return
    completion_id = answered_by = ""
    for event in stream(settings, "/v1/chat/completions", body | {"stream": True}):
        completion_id = event.get("id", completion_id)
        answered_by = event.get("model", answered_by)
        for choice in event.get("choices", []):
            sys.stdout.write(choice.get("delta", {}).get("content") or "")
            sys.stdout.flush()
    sys.stdout.write("\n")
    console.print(f"[dim]answered by {answered_by}; was it right?[/]", highlight=False)
    console.print(
        f"[dim]localforge feedback {completion_id} --score 1[/]", highlight=False, soft_wrap=True
    )


def route(
    prompt: Annotated[str, typer.Argument(help="What would be asked; - reads standard input.")],
    explain: Annotated[
        bool, typer.Option("--explain", help="Show every model, also those excluded.")
    ] = False,
    model: ModelOption = "auto",
    prefer: PreferenceOption = "",
    policy: PolicyOption = "",
    label: LabelOption = "",
    config: ConfigOption = None,
    json_: JsonOption = False,
) -> None:
    """Show which model would be chosen, without running it.

    Example: localforge route --explain "What is the capital of France?"

    Example: localforge route --policy greedy "What is the capital of France?"
    """
    settings = load_config(config)
    body = _body(prompt, model, preference=prefer, policy=policy, label=label)
    answer = call(settings, "POST", "/v1/route", body)
    if json_:
        print_json(answer)
        return
    show_headline(answer["decision"])
    if explain:
        show_explanation(answer)


def feedback(
    completion_id: Annotated[str, typer.Argument(help="The `id` of the completion.")],
    score: Annotated[float, typer.Option(help="0 (useless) to 1 (right).", min=0, max=1)],
    comment: Annotated[str, typer.Option(help="Not stored, only counted.")] = "",
    config: ConfigOption = None,
    json_: JsonOption = False,
) -> None:
    """Tell LocalForge how good an answer was; the router learns from it.

    Example: localforge feedback chatcmpl-01j… --score 1
    """
    body = {"completion_id": completion_id, "score": score, "comment": comment}
    answer = call(load_config(config), "POST", "/v1/feedback", body)
    if json_:
        print_json(answer)
    else:
        console.print(f"thank you: feedback {answer['id']} accepted", highlight=False)


def _body(prompt: str, model: str, **asked: str) -> dict[str, Any]:
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise RequestRefused("the prompt is empty")
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
    extension = {name: value for name, value in asked.items() if value}
    return body | ({"localforge": extension} if extension else {})
