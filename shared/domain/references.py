"""What vLLM's arguments name beside the model: adapters, draft models, tokenizers, chat templates. Pure.

vLLM would fetch them by itself, on the node, after minutes that are paid for, and without the deployment's rights.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from gpulaunch.models.option_values import OptionValue, last_values, option_values

Kind = Literal["adapter", "draft", "tokenizer", "template"]
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}")
_TOKENIZERS = ("tokenizer", "hf-config-path", "generation-config")
_WORDS = ("auto", "vllm", "slow", "hf", "mistral", "custom", "ngram", "suffix")
"""Values of these options that name no repository."""
MODEL_FOLDER = "model"
"""The model's folder on the node, as arguments may name it: `model/adapters/sql`."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    kind: Kind
    name: str
    """A repository of the Hub; a file or folder of the model for those that are local."""
    revision: str = "main"
    local: bool = False


Localize = Callable[[Reference], str]
"""What to write in place of a reference."""


def references(args: Sequence[str]) -> list[Reference]:
    """Return what arguments name, each once."""
    found: dict[Reference, None] = {}

    def note(reference: Reference) -> str:
        found[reference] = None
        return reference.name

    localized(args, note)
    return list(found)


def localized(args: Sequence[str], localize: Localize) -> list[str]:
    """Return the arguments with other names for what they refer to, and without revisions: what they name is there."""
    made = list(args)
    given = last_values(args)
    for value in option_values(args):
        text = _replaced(value, given, localize)
        if text is not None:
            made[value.place] = args[value.place][: value.offset] + text
    return _without_revisions(args, made)


def _replaced(value: OptionValue, given: Mapping[str, str], localize: Localize) -> str | None:
    """The value's new text; None: it refers to nothing."""
    match value.option:
        case "lora-modules":
            return _adapter(value.text, localize)
        case "default-mm-loras":
            return _in_json(value.text, lambda _: True, "adapter", {}, localize)
        case "speculative-config":
            return _in_json(value.text, lambda key: key == "model", "draft", {}, localize)
        case "speculative-config.model" | "spec-model":
            return _named(value.text, "draft", given.get("speculative-config.revision"), localize)
        case "tokenizer" | "hf-config-path" | "generation-config":
            revision = given.get("tokenizer-revision") if value.option == "tokenizer" else None
            return _named(value.text, "tokenizer", revision, localize)
        case "chat-template":
            return _template(value.text, localize)
        case _:
            return None


def _adapter(text: str, localize: Localize) -> str | None:
    if text.lstrip().startswith("{"):
        return _in_json(text, lambda key: key in ("path", "local_path"), "adapter", {}, localize)
    name, equals, path = text.partition("=")
    replaced = _named(path, "adapter", None, localize) if equals else None
    return None if replaced is None else f"{name}={replaced}"


def _in_json(
    text: str, is_path: Callable[[str], bool], kind: Kind, given: Mapping[str, str], localize: Localize
) -> str | None:
    try:
        parsed: Any = json.loads(text)
    except ValueError:
        return None
    if not isinstance(parsed, dict):
        return None
    values = cast("dict[str, Any]", parsed)
    revision = values.get("revision")
    for key, inner in list(values.items()):
        if isinstance(inner, str) and is_path(key):
            replaced = _named(inner, kind, revision if isinstance(revision, str) else given.get(key), localize)
            if replaced is not None:
                values[key] = replaced
                values.pop("revision", None)
    return json.dumps(values)


def _named(text: str, kind: Kind, revision: str | None, localize: Localize) -> str | None:
    path = text.strip("/")
    if path == MODEL_FOLDER or path.startswith(f"{MODEL_FOLDER}/"):
        return localize(Reference(kind=kind, name=path, local=True))
    is_repository = _REPOSITORY.fullmatch(text) or (kind != "adapter" and _NAME.fullmatch(text) and text not in _WORDS)
    return localize(Reference(kind=kind, name=text, revision=revision or "main")) if is_repository else None


def _template(text: str, localize: Localize) -> str | None:
    if re.search(r"[{}\n]", text) or not text or text.startswith("/"):
        return None
    return localize(Reference(kind="template", name=text, local=True))


def _without_revisions(args: Sequence[str], made: Sequence[str]) -> list[str]:
    """The arguments without the options that say which version to fetch: it is there."""
    dropped: set[int] = set()
    for value in option_values(args):
        if value.option in ("revision", "tokenizer-revision", "code-revision", "speculative-config.revision"):
            dropped |= {value.place} if value.offset else {value.place - 1, value.place}
    return [arg for place, arg in enumerate(made) if place not in dropped]


def without_effect(args: Sequence[str], source: str | None) -> Iterator[tuple[int, str]]:
    """Yield arguments that would be accepted and then mean nothing, with what to write instead."""
    options = {value.option for value in option_values(args)}
    of_hub = source is None or source.startswith("hf://")
    pinned = source is not None and "@" in source
    for value in option_values(args):
        match value.option:
            case "revision" if not of_hub:
                yield value.place, f"--revision has no effect on {source}; only models of the Hub have revisions."
            case "revision" if pinned and source is not None and source.partition("@")[2] != value.text:
                yield value.place, f"--revision {value.text} contradicts model_source {source}; set one of them."
            case "tokenizer-revision" if "tokenizer" not in options:
                yield (
                    value.place,
                    "--tokenizer-revision has no effect without --tokenizer; use --revision for the model.",
                )
            case "code-revision":
                yield value.place, "--code-revision has no effect, since code comes with the model; use --revision."
            case _:
                pass
