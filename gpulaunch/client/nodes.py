"""HTTP clients for a node's own address, which its certificate does not name."""

from typing import Any

import httpx

from gpulaunch.models.responses import Credentials
from gpulaunch.trust import node_context


def node_client(access: Credentials, **options: Any) -> httpx.Client:
    """For `openai.OpenAI(http_client=…)` and the like: believes this node, and nothing else, by its certificate.

    Args:
        access: Of the instance that is called.
        options: Of `httpx.Client`, without `verify` and `event_hooks`.
    """

    def name(request: httpx.Request) -> None:
        request.extensions["sni_hostname"] = access.server_name

    if access.server_name is None or access.ca_certificate is None:
        return httpx.Client(**options)
    return httpx.Client(verify=node_context(access.ca_certificate), event_hooks={"request": [name]}, **options)


def async_node_client(access: Credentials, **options: Any) -> httpx.AsyncClient:
    """The same for `openai.AsyncOpenAI(http_client=…)`."""

    async def name(request: httpx.Request) -> None:
        request.extensions["sni_hostname"] = access.server_name

    if access.server_name is None or access.ca_certificate is None:
        return httpx.AsyncClient(**options)
    return httpx.AsyncClient(verify=node_context(access.ca_certificate), event_hooks={"request": [name]}, **options)
