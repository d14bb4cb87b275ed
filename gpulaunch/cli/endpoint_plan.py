"""What has to change so that endpoints are as a file has them. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, cast

from gpulaunch.cli.endpoint_file import asked_of
from gpulaunch.models.base import Answer
from gpulaunch.models.endpoints import NUMBERS, EndpointRequest, EndpointView

Action = Literal["create", "change", "delete", "keep"]


class FieldChange(Answer):
    """A field that differs."""

    field: str
    """Dotted path."""
    before: Any
    """Null if the endpoint does not exist, or the field has no value."""
    after: Any
    """Null if it has no value then."""


class PlannedChange(Answer):
    """What is done with an endpoint."""

    name: str
    action: Action
    fields: list[FieldChange] = []
    """What differs from now; of a new endpoint, from the defaults."""
    revision: str | None = None
    """The revision that the change requires; null if the endpoint does not exist yet."""
    applied: bool = False
    """Whether it was made."""

    @property
    def rolls_out(self) -> bool:
        """Whether replicas are replaced."""
        return self.action == "change" and any(one.field.startswith("launch.") for one in self.fields)

    @property
    def starts_replicas(self) -> bool:
        """Whether it may start replicas, which cost money."""
        return self.action == "create" or any(one.field != "drain_seconds" for one in self.fields)


def planned(
    wanted: Sequence[EndpointRequest], found: Sequence[EndpointView], prune: tuple[str, str] | None
) -> list[PlannedChange]:
    """What to do, in the order of the file.

    Deletions come last: of what is not in the file and has the label `prune` in its launch.
    """
    by_name = {one.name: one for one in found}
    changes = [_change(one, by_name.get(one.name)) for one in wanted]
    names = {one.name for one in wanted}
    unwanted = [one for one in found if prune is not None and one.name not in names and _has(one, prune)]
    deletions = [
        PlannedChange(name=one.name, action="delete", revision=one.revision)
        for one in unwanted
        if one.status != "deleting"
    ]
    return changes + deletions


def _has(view: EndpointView, label: tuple[str, str]) -> bool:
    key, value = label
    return view.launch.labels.get(key) == value


def _change(wanted: EndpointRequest, view: EndpointView | None) -> PlannedChange:
    asked = wanted.model_dump(mode="json", exclude={"name", *NUMBERS}) | wanted.numbers
    if view is None:
        given = wanted.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
        return PlannedChange(name=wanted.name, action="create", fields=list(_differences({}, given)))
    fields = list(_differences(asked_of(view), asked))
    return PlannedChange(name=wanted.name, action="change" if fields else "keep", fields=fields, revision=view.revision)


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], above: str = "") -> Iterator[FieldChange]:
    for key in dict.fromkeys([*before, *after]):
        one, other, path = before.get(key), after.get(key), f"{above}{key}"
        if one == other:
            continue
        outer: Any = {} if one is None else one
        inner: Any = {} if other is None else other
        if isinstance(outer, dict) and isinstance(inner, dict):
            yield from _differences(cast("dict[str, Any]", outer), cast("dict[str, Any]", inner), f"{path}.")
        else:
            yield FieldChange(field=path, before=one, after=other)
