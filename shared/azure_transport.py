"""What carries the requests of Azure's SDK, for storage, the resource manager and logins: each has its limits."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpulaunch.deadlines import time_left, within

if TYPE_CHECKING:
    from azure.core.pipeline.transport import HttpTransport


@dataclass(frozen=True, kw_only=True)
class CallLimits:
    """In seconds."""

    connect: float
    read: float
    """Between two pieces of an answer."""
    call: float
    """For a whole exchange: name, connection, headers and body."""
    pause: float = 5.0
    """Between two tries, whatever `Retry-After` asks for."""


STORAGE = CallLimits(connect=5.0, read=7.0, call=7.0)
"""Connections inside Azure open within milliseconds; a table operation takes 10 ms, a full page a second. With the one
repetition of `shared.storage.connect`, a launch is answered within 20 s where storage is silent."""
RESOURCE_MANAGER = CallLimits(connect=5.0, read=30.0, call=45.0)
"""A page of a listing takes Azure one to three seconds; ten times that counts as no answer."""
LOGIN = CallLimits(connect=5.0, read=5.0, call=5.0)
"""A managed identity's token comes from the same machine, in milliseconds."""


def bounded_transport(limits: CallLimits, **options: Any) -> "HttpTransport[Any, Any]":
    """The SDK's own transport, whose calls end in time, whatever Azure or something before it does.

    A session among the `options` is used as it is. It is safe to use from several threads.
    """
    # imported with the first client, for the cold start's sake
    from azure.core.exceptions import ServiceResponseTimeoutError
    from azure.core.pipeline.transport import RequestsTransport

    class Bounded(RequestsTransport):
        call_limit = limits.call

        def send(self, request: Any, **kwargs: Any) -> Any:
            # The SDK streams the answer to a transaction, so its body would come outside of the limit.
            kwargs["stream"] = False

            def call() -> Any:
                return super(Bounded, self).send(request, **kwargs)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

            try:
                return within(limits.call, call)
            except TimeoutError as error:
                raise ServiceResponseTimeoutError(f"no answer within {limits.call:.0f} s") from error

        def sleep(self, duration: float) -> None:
            time.sleep(max(0.0, min(duration, limits.pause, time_left())))

    return Bounded(connection_timeout=limits.connect, read_timeout=limits.read, **options)
