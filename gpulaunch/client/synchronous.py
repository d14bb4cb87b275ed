"""The synchronous client: the methods of `Calls`, run to their end without an event loop."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from gpulaunch.client import exchange
from gpulaunch.client.calls import Calls
from gpulaunch.client.connecting import past_proxies, trusts_environment

P = ParamSpec("P")
T = TypeVar("T")


def _run(awaitable: Awaitable[T]) -> T:
    """Run to the end what never suspends: `Calls` over a synchronous client has nothing to wait for."""
    try:
        next(awaitable.__await__())
    except StopIteration as end:
        return end.value
    raise AssertionError("a synchronous call has suspended")


def _blocking(
    method: Callable[Concatenate[Calls, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["GpuLaunch", P], T]:
    @wraps(method)
    def call(self: "GpuLaunch", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return _run(method(self.calls, *args, **kwargs))

    return call


def _iterating(
    method: Callable[Concatenate[Calls, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate["GpuLaunch", P], Iterator[T]]:
    @wraps(method)
    def call(self: "GpuLaunch", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        found = method(self.calls, *args, **kwargs)
        try:
            while True:
                yield _run(anext(found))
        except StopAsyncIteration:
            return
        finally:
            _run(found.aclose())

    return call


class GpuLaunch:
    """A client of one gpulaunch app. Every method raises ClientError; see `gpulaunch.client.errors`.

    Args:
        url: The app's address, such as `https://my-app.azurewebsites.net`.
        token: One of its admin or read tokens; None if it asks for none.
        timeout: Seconds that one request may take.
        on_retry: Called before a request is sent again, with the reason and the seconds until then.
        transport, sleep, clock: For tests: another way to the app, and another time in seconds.

    Raises:
        AddressError: the address or the token is invalid.
        ConnectionSetupError: The environment names a SOCKS proxy, and httpx has no support for it.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: httpx.Timeout = exchange.TIMEOUT,
        on_retry: Callable[[Exception, float], None] | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        address, headers = exchange.checked(url, token)
        http = httpx.Client(
            base_url=address,
            headers=headers,
            timeout=timeout,
            transport=transport,
            mounts=past_proxies(address),
            trust_env=trusts_environment(address),
        )
        self.calls = Calls(http, sleep, clock, on_retry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    close = _blocking(Calls.close)
    launch = _blocking(Calls.launch)
    plan = _blocking(Calls.plan)
    get = _blocking(Calls.get)
    list = _iterating(Calls.list)
    pages = _iterating(Calls.pages)
    events = _blocking(Calls.events)
    follow_events = _iterating(Calls.follow_events)
    logs = _blocking(Calls.logs)
    follow_logs = _iterating(Calls.follow_logs)
    credentials = _blocking(Calls.credentials)
    terminate = _blocking(Calls.terminate)
    deploy = _blocking(Calls.deploy)
    create_endpoint = _blocking(Calls.create_endpoint)
    endpoint = _blocking(Calls.endpoint)
    endpoints = _blocking(Calls.endpoints)
    change_endpoint = _blocking(Calls.change_endpoint)
    pause_endpoint = _blocking(Calls.pause_endpoint)
    resume_endpoint = _blocking(Calls.resume_endpoint)
    roll_out_endpoint = _blocking(Calls.roll_out_endpoint)
    endpoint_decisions = _blocking(Calls.endpoint_decisions)
    endpoint_keys = _blocking(Calls.endpoint_keys)
    create_key = _blocking(Calls.create_key)
    revoke_key = _blocking(Calls.revoke_key)
    delete_endpoint = _blocking(Calls.delete_endpoint)
    catalog = _blocking(Calls.catalog)
    costs = _blocking(Calls.costs)
    quota = _blocking(Calls.quota)
    garbage = _blocking(Calls.garbage)
    confirm_garbage = _blocking(Calls.confirm_garbage)
    adopt = _blocking(Calls.adopt)
    confirm_deleted = _blocking(Calls.confirm_deleted)
    config = _blocking(Calls.config)
    health = _blocking(Calls.health)
    role = _blocking(Calls.role)
    wait_until_ready = _blocking(Calls.wait_until_ready)
    wait_until_ended = _blocking(Calls.wait_until_ended)
