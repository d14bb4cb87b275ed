"""The methods of both clients that concern endpoints."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from gpulaunch import operations
from gpulaunch.client import exchange
from gpulaunch.models.decisions import DecisionList
from gpulaunch.models.endpoints import (
    EndpointList,
    EndpointSpec,
    EndpointView,
    KeyList,
    KeyView,
    NewKey,
    UnreadableEndpointView,
)
from gpulaunch.operations import Operation


class EndpointCalls(ABC):
    @abstractmethod
    async def _send(
        self,
        operation: Operation,
        *targets: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> httpx.Response: ...

    async def deploy(
        self,
        name: str,
        spec: EndpointSpec | Mapping[str, Any] | None = None,
        /,
        *,
        revision: str | None = None,
        **fields: Any,
    ) -> EndpointView:
        """Create an endpoint, or make an existing one as asked for: an EndpointSpec, or its fields; safe to repeat.

        `launch` is what each replica is launched with. Another launch than before is rolled out replica by replica.
        With the `revision` of an EndpointView it is made over that or not at all: ConflictError.
        """
        response = await self._send(operations.PUT_ENDPOINT, name, headers=_over(revision), body=_body(spec, fields))
        return exchange.parsed(response, EndpointView)

    async def create_endpoint(
        self, name: str, spec: EndpointSpec | Mapping[str, Any] | None = None, /, **fields: Any
    ) -> EndpointView:
        """Create an endpoint; takes what `deploy` takes. ConflictError if there is one of that name that differs."""
        body = {**_body(spec, fields), "name": name}
        return exchange.parsed(await self._send(operations.CREATE_ENDPOINT, body=body), EndpointView)

    async def endpoint(self, name: str) -> EndpointView:
        """Get one endpoint with its replicas."""
        return exchange.parsed(await self._send(operations.SHOW_ENDPOINT, name), EndpointView)

    async def endpoints(self) -> Sequence[EndpointView | UnreadableEndpointView]:
        """List the endpoints, by name; those that the app cannot read last."""
        found = exchange.parsed(await self._send(operations.LIST_ENDPOINTS), EndpointList)
        return [*found.endpoints, *found.unreadable]

    async def change_endpoint(self, name: str, *, revision: str | None = None, **changes: Any) -> EndpointView:
        """Change fields of an endpoint, as of an EndpointChange, or entries of `launch`; None sets the default."""
        response = await self._send(operations.CHANGE_ENDPOINT, name, headers=_over(revision), body=changes)
        return exchange.parsed(response, EndpointView)

    async def pause_endpoint(self, name: str, *, revision: str | None = None) -> EndpointView:
        """Drain and terminate all replicas, and keep the endpoint's name."""
        return exchange.parsed(await self._send(operations.PAUSE_ENDPOINT, name, headers=_over(revision)), EndpointView)

    async def resume_endpoint(self, name: str, *, revision: str | None = None) -> EndpointView:
        """Start replicas again, also of a generation that was stopped."""
        return exchange.parsed(
            await self._send(operations.RESUME_ENDPOINT, name, headers=_over(revision)), EndpointView
        )

    async def delete_endpoint(self, name: str, *, revision: str | None = None) -> EndpointView:
        """Drain all replicas, then delete the endpoint; NotFoundError if it no longer exists."""
        return exchange.parsed(
            await self._send(operations.DELETE_ENDPOINT, name, headers=_over(revision)), EndpointView
        )

    async def endpoint_decisions(self, name: str) -> DecisionList:
        """Get why an endpoint has as many replicas as it has, and when their number changed last."""
        return exchange.parsed(await self._send(operations.ENDPOINT_DECISIONS, name), DecisionList)

    async def endpoint_keys(self, name: str) -> Sequence[KeyView]:
        """List an endpoint's keys, without the keys themselves."""
        return exchange.parsed(await self._send(operations.ENDPOINT_KEYS, name), KeyList).keys

    async def create_key(
        self,
        name: str,
        application: str,
        requests_per_minute: int | None = None,
        *,
        tokens_per_minute: int | None = None,
        tokens_per_month: int | None = None,
        requests_at_once: int | None = None,
    ) -> NewKey:
        """Make a key with which an application calls an endpoint; `key` of the answer is shown this once.

        ConflictError if the application has one: also when an earlier try was carried out, and its answer lost.
        """
        limits = {
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "tokens_per_month": tokens_per_month,
            "requests_at_once": requests_at_once,
        }
        # An app of an earlier version refuses fields that it does not know.
        body = {"name": application, **{field: value for field, value in limits.items() if value is not None}}
        return exchange.parsed(await self._send(operations.CREATE_KEY, name, body=body), NewKey)

    async def revoke_key(self, name: str, key_id: str) -> Sequence[KeyView]:
        """Revoke a key, and list those that are left; harmless when repeated."""
        return exchange.parsed(await self._send(operations.REVOKE_KEY, name, key_id), KeyList).keys

    async def roll_out_endpoint(self, name: str, *, revision: str | None = None) -> EndpointView:
        """Replace all replicas by new ones of the same launch, one after another."""
        return exchange.parsed(
            await self._send(operations.ROLL_OUT_ENDPOINT, name, headers=_over(revision)), EndpointView
        )


def _body(spec: EndpointSpec | Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is not set is left to the app: its defaults may be newer than these."""
    if isinstance(spec, EndpointSpec):
        return spec.model_dump(mode="json", exclude_unset=True)
    return fields if spec is None else spec


def _over(revision: str | None) -> dict[str, str]:
    """The headers of a change that is made over what was shown, or not at all."""
    return {} if revision is None else {"If-Match": f'"{revision}"'}
