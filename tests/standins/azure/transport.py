"""The stand-in's in-process side: a transport that takes the place of the network beneath Azure's own client."""

import io
import json
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from azure.core.pipeline.transport import HttpTransport
from azure.core.rest import HttpRequest, HttpResponse
from azure.core.rest._http_response_impl import (  # pyright: ignore[reportPrivateUsage] - there is no public one
    HttpResponseImpl,
)
from azure.mgmt.compute import ComputeManagementClient

from shared.clock import Clock
from shared.clouds.azure.client import AzureClient
from tests.standins.azure.credential import StaticCredential
from tests.standins.azure.shapes import Call, Reply


class Transport(HttpTransport[HttpRequest, HttpResponse]):
    """Hands each request to `answer`, in the caller's thread."""

    def __init__(self, answer: Callable[[Call], Reply]) -> None:
        self._answer = answer

    def open(self) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def send(self, request: HttpRequest, **_: Any) -> HttpResponse:
        split = urlsplit(request.url)
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        body: Any = json.loads(str(request.content)) if request.content else {}
        base = f"{split.scheme}://{split.netloc}"
        reply = self._answer(Call(request.method, split.path, query, dict(request.headers), body, base))
        content = b"" if reply.body is None else json.dumps(reply.body).encode()

        def chunks(**_: object) -> Any:
            return iter([content])

        response = HttpResponseImpl(
            request=request,
            internal_response=io.BytesIO(),
            status_code=reply.status,
            reason="",
            content_type="application/json",
            headers=reply.headers,
            stream_download_generator=chunks,
            block_size=None,
        )
        response.read()
        return response


class InProcessClient(AzureClient):
    """The program's own client, with Azure's own below it, whose requests go to `answer`."""

    def __init__(self, subscription: str, clock: Clock, answer: Callable[[Call], Reply]) -> None:
        super().__init__(subscription, clock)
        self._transport = Transport(answer)

    def _make(self) -> ComputeManagementClient:
        return ComputeManagementClient(
            StaticCredential(), self.subscription_id, retry_total=0, transport=self._transport
        )
