"""Files of endpoints: YAML or JSON into models with the line of each mistake, and endpoints into YAML.

YAML is read as version 1.2 has it, as editors do: `no` and `on` are texts, and so are dates.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import yaml
from pydantic import ValidationError

from gpulaunch.cli.exits import FileError, FileMistake
from gpulaunch.models.endpoint_file import EndpointFile
from gpulaunch.models.endpoints import NUMBERS, EndpointRequest, EndpointSpec, EndpointView
from gpulaunch.models.field_errors import field_errors
from gpulaunch.models.problems import FieldError

_MOST_VALUES = 100_000
"""Far beyond a hundred endpoints; a small file of aliases to aliases would have billions."""
_DEEPEST = 50
_CORE = {
    "null": r"^(?:~|null|Null|NULL|)$",
    "bool": r"^(?:true|True|TRUE|false|False|FALSE)$",
    # A leading zero makes an octal number of it in one version of YAML and not in the other: it is a text here.
    "int": r"^[-+]?(?:0|[1-9][0-9]*)$",
    "float": r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$",
    "merge": r"^<<$",
}
"""What a plain word is, by its pattern; anything else is a text."""
_TAG = "tag:yaml.org,2002:"


_Resolvers = dict[str | None, list[tuple[str, re.Pattern[str]]]]
_RESOLVERS: _Resolvers = {None: [(_TAG + name, re.compile(pattern)) for name, pattern in _CORE.items()]}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _RESOLVERS


class _Dumper(yaml.SafeDumper):
    """Puts quotes around what either version of YAML would take for something else than a text."""

    yaml_implicit_resolvers = cast("_Resolvers", yaml.SafeDumper.yaml_implicit_resolvers) | _RESOLVERS


def _text(dumper: Any, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(f"{_TAG}str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


@dataclass(frozen=True)
class ReadFile:
    """A file of endpoints that has been read."""

    path: str
    endpoints: Sequence[EndpointRequest]
    root: yaml.Node
    """What the text consists of, with places."""

    def error(self, errors: Sequence[FieldError]) -> FileError:
        """The error that these mistakes are."""
        return _error(self.path, self.root, errors)

    def within(self, name: str, errors: Sequence[FieldError], part: str = "") -> FileError:
        """The error that mistakes of one endpoint, or of a part of it, are."""
        place = next(place for place, one in enumerate(self.endpoints) if one.name == name)
        path = f"endpoints.{place}{part and '.'}{part}"
        return self.error(
            [one.model_copy(update={"field": path if one.field == "body" else f"{path}.{one.field}"}) for one in errors]
        )


def read_endpoints(path: str, text: str) -> ReadFile:
    """Read the text of a file; `path` names it in messages.

    Raises:
        FileError: It is neither YAML nor JSON, or not a file of endpoints; with a line for each mistake.
    """
    from_json: Any = None
    with suppress(ValueError, RecursionError):
        from_json = json.loads(text)
    # JSON may have tabs between its words, where YAML may not, and none within them.
    root = _composed(path, text if from_json is None else text.replace("\t", " "))
    value = _Values(path).of(root)
    if from_json is not None:
        value = from_json  # JSON alone has characters in two halves (\\ud83d\\ude00)
    try:
        file = EndpointFile.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise _error(path, root, field_errors(EndpointFile, error)) from error
    names = [one.name for one in file.endpoints]
    twice = [place for place, name in enumerate(names) if name in names[:place]]
    if twice:
        message = "Another endpoint of this file has that name."
        raise _error(path, root, [FieldError(field=f"endpoints.{one}.name", message=message) for one in twice])
    return ReadFile(path, file.endpoints, root)


def text_of(views: Sequence[EndpointView], schema: str) -> str:
    """The file of these endpoints; `schema` is where editors find its schema. Defaults are left out."""
    endpoints = [{"name": one.name, **_asked(one)} for one in views]
    body = yaml.dump({"endpoints": endpoints}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return f"# yaml-language-server: $schema={schema}\n{body}"


def asked_of(view: EndpointView) -> dict[str, Any]:
    """Everything that is asked of an endpoint now, as JSON."""
    numbers = {"replicas"} if view.max_replicas is None else NUMBERS - {"replicas"}
    names = [name for name in EndpointSpec.model_fields if name in numbers or name not in NUMBERS]
    return {name: view.model_dump(mode="json", include={name})[name] for name in names}


def _asked(view: EndpointView) -> dict[str, Any]:
    defaults = {name: field.default for name, field in EndpointSpec.model_fields.items() if name != "launch"}
    defaults |= {"replicas": 1, "min_replicas": 0, "scaling": "balanced"}
    asked = asked_of(view)
    others = {name: value for name, value in asked.items() if name != "launch" and value != defaults[name]}
    return others | {"launch": view.launch.model_dump(mode="json", exclude_defaults=True)}


def _composed(path: str, text: str) -> yaml.Node:
    try:
        root: yaml.Node | None = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise FileError(path, [FileMistake(mark and mark.line + 1, "", f"Not valid YAML: {problem}.")]) from error
    except (yaml.YAMLError, RecursionError) as error:
        problem = "too deeply nested" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise FileError(path, [FileMistake(None, "", f"Not valid YAML: {problem}.")]) from error
    if root is None:
        raise FileError(path, [FileMistake(None, "", "The file is empty.")])
    return root


class _Values:
    """Makes values of what a text consists of, of the kinds that JSON has."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._loader: Any = _Loader("")  # half of its types are missing
        self._above: list[int] = []
        self._count = 0

    def of(self, node: yaml.Node) -> Any:
        self._count += 1
        if self._count > _MOST_VALUES or id(node) in self._above or len(self._above) > _DEEPEST:
            raise self._mistake(node, "Refers to itself, is too deeply nested, or has too many values.")
        self._above.append(id(node))
        try:
            return self._value(node)
        finally:
            self._above.pop()

    def _value(self, node: yaml.Node) -> Any:
        kind = node.tag.removeprefix(_TAG)
        match node:
            case yaml.MappingNode() if kind == "map":
                self._refuse_repetition(node)
                self._merge(node)
                return {self._key(key): self.of(value) for key, value in _pairs(node)}
            case yaml.SequenceNode() if kind == "seq":
                return [self.of(one) for one in cast("list[yaml.Node]", node.value)]
            case yaml.ScalarNode() if kind in ("null", "bool", "int", "float", "str", "merge"):
                if kind in ("str", "merge"):
                    return str(node.value)
                try:
                    return self._loader.construct_object(node)
                except (ValueError, KeyError) as error:
                    raise self._mistake(node, f"{node.value!r} is not a valid {kind}.") from error
            case _:
                raise self._mistake(node, f"{node.tag} is not a type that JSON has.")

    def _merge(self, node: yaml.MappingNode) -> None:
        """Put the pairs of `<<` before the mapping's own ones, so that these win."""
        try:
            self._loader.flatten_mapping(node)
        except yaml.MarkedYAMLError as error:
            raise self._mistake(node, "`<<` takes a mapping, or a list of mappings.") from error

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._mistake(node, "A key must be a text.")
        return str(node.value)

    def _refuse_repetition(self, node: yaml.MappingNode) -> None:
        seen: set[str] = set()
        for key, _ in _pairs(node):
            name = self._key(key)
            if name in seen and name != "<<":
                raise self._mistake(key, f"`{name}` is there twice.")
            seen.add(name)

    def _mistake(self, node: yaml.Node, message: str) -> FileError:
        return FileError(self._path, [FileMistake(_line(node), "", message)])


def _pairs(node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    return cast("list[tuple[yaml.Node, yaml.Node]]", node.value)


def _error(path: str, root: yaml.Node, errors: Sequence[FieldError]) -> FileError:
    mistakes = [FileMistake(_line_of(root, one.field), one.field, one.message, tuple(one.nearest)) for one in errors]
    return FileError(path, sorted(mistakes, key=lambda one: one.line or 0))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _line_of(root: yaml.Node, field: str) -> int:
    """Where a field stands, or as much of it as is there. Keys may have dots in them."""
    line, node, rest = _line(root), root, field
    while rest:
        for key, mark, inner in _inner(node):
            if rest == key or rest.startswith(f"{key}."):
                line, node, rest = _line(mark), inner, rest[len(key) + 1 :]
                break
        else:
            break
    return line


def _inner(node: yaml.Node) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Keys, where each stands, and their values; of what is there twice, first what wins."""
    if isinstance(node, yaml.MappingNode):
        found = [(str(key.value), key, value) for key, value in reversed(_pairs(node))]
        yield from sorted(found, key=lambda one: -len(one[0]))
    elif isinstance(node, yaml.SequenceNode):
        for place, one in enumerate(cast("list[yaml.Node]", node.value)):
            yield str(place), one, one


def shown(value: Any) -> str:
    """A value on one line, for people."""
    if isinstance(value, str):
        return value if re.fullmatch(r"[\w./:@+-]+", value) else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)
