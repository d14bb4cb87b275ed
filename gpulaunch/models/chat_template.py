"""The text of a chat template among vLLM's arguments."""

from typing import Any, cast

_OPTION = "--chat-template"


def moved_template(body: Any) -> Any:
    """Return a request's body with the text of `--chat-template` as its field `chat_template`.

    A template has several lines and kilobytes, an argument is a short line. The name of a file stays where it is, as
    does what the request's own validation has to report.
    """
    if not isinstance(body, dict):
        return body
    fields = cast("dict[str, Any]", body)
    args: Any = fields.get("vllm_args")
    if not isinstance(args, list) or fields.get("chat_template") is not None:
        return fields
    entries = cast("list[Any]", args)
    for place, entry in enumerate(entries):
        name, equals, text = entry.partition("=") if isinstance(entry, str) else ("", "", "")
        if name.replace("_", "-") != _OPTION:
            continue
        taken = 1 if equals else 2
        value = text if equals else entries[place + 1] if place + 1 < len(entries) else None
        if isinstance(value, str) and "{" in value:
            return {**fields, "vllm_args": entries[:place] + entries[place + taken :], "chat_template": value}
    return fields
