"""GET requests to stores that users name, and their XML answers."""

import math
import socket
import ssl
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

import httpx

from gpulaunch.deadlines import within
from shared.domain.provider import ProviderUnavailableError
from shared.model_sources.addresses import is_public
from shared.model_sources.base import refused
from shared.model_sources.reasons import PASSING, store_code

Resolve = Callable[[str, int], Sequence[str]]
TRIES = 3
"""Within one call: a store that is busy for seconds should not fail an offer; minutes are up to the caller."""
TIMEOUT = httpx.Timeout(15.0, connect=5.0)
"""A page of a listing comes in well under a second; a queue function must not hang on a store."""
LONGEST_SECONDS = 60.0
"""For one exchange, names and headers included."""
LARGEST = 16 * 1024 * 1024
"""Maximum bytes of a page; a thousand entries are below one MiB."""

_KEPT = (
    "Location", "Link", "X-Error-Code", "X-Error-Message", "x-ms-error-code", "Content-Range", "ETag", "Content-Length",
)  # fmt: skip
"""Headers of an answer that callers read; those about the body's form no longer hold for what was read."""


def resolve(host: str, port: int) -> list[str]:
    """Return a host's addresses, IPv4 first, which every network has. Raises OSError."""
    found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    return sorted(found, key=lambda address: (":" in address, address))


class Web:
    """GET and HEAD with retries. Redirects are not followed: the user named this store, not another."""

    def __init__(
        self,
        transport: httpx.BaseTransport | None = None,
        lookup: Resolve = resolve,
        sleep: Callable[[float], None] = time.sleep,
        until: float = math.inf,
    ) -> None:
        self._transport, self._lookup, self._sleep, self._until = transport, lookup, sleep, until

    def within(self, seconds: float) -> "Web":
        """Return a copy that gives up with ProviderUnavailableError after this many seconds."""
        return Web(self._transport, self._lookup, self._sleep, time.monotonic() + seconds)

    def get(
        self, url: str, headers: Mapping[str, str], what: str, public_only: bool = False, method: str = "GET"
    ) -> httpx.Response:
        """Return the answer, which may have any status below 500 except 429.

        `what` names the source in messages: addresses may be signed and are never shown. `public_only` refuses hosts
        that resolve to any address that is not public, and connects to the very address checked.

        Raises:
            LaunchRefusedError: The host does not exist or is not public.
            ProviderUnavailableError: No answer, or the store is too busy.
        """
        sent, extensions = dict(headers), {}
        if public_only:
            url, extensions = self._pin(url, sent, what)
        message = ""
        with httpx.Client(transport=self._transport, timeout=TIMEOUT, follow_redirects=False) as client:
            for number in range(TRIES):
                if number:
                    self._sleep(0.5 * 2**number)

                def exchange() -> httpx.Response:
                    with client.stream(method, url, headers=sent, extensions=extensions) as answer:
                        return _read(answer, what, self._until)

                try:
                    return within(min(LONGEST_SECONDS, max(0.0, self._until - time.monotonic())), exchange)
                except TimeoutError:
                    raise ProviderUnavailableError(f"{what} cannot be listed now: the store is too slow") from None
                except _BusyError as error:
                    message = str(error)
                except (httpx.TransportError, ssl.SSLError) as error:
                    message = type(error).__name__
        raise ProviderUnavailableError(f"{what} cannot be listed now: {message}")

    def _pin(self, url: str, headers: dict[str, str], what: str) -> tuple[str, dict[str, str]]:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
        try:
            addresses = self._lookup(host, port)
        except (OSError, UnicodeError):  # the latter from names that cannot be resolved
            raise refused(f"{what}: host {host} does not exist") from None
        if not addresses or not all(map(is_public, addresses)):
            raise refused(f"{what}: {host} is not a public address")
        headers["Host"] = parts.netloc
        address = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
        return parts._replace(netloc=f"{address}:{port}").geturl(), {"sni_hostname": host}


class _BusyError(Exception):
    """The store requests a retry."""


def _read(answer: httpx.Response, what: str, until: float) -> httpx.Response:
    if answer.status_code == 429 or answer.status_code >= 500:
        raise _BusyError(f"answered {answer.status_code}")
    body = bytearray()
    for block in answer.iter_bytes():
        body += block
        if len(body) > LARGEST:
            raise refused(f"{what}: the listing is too large")
        # A timeout per read would let a store that sends a byte at a time go on for ever.
        if time.monotonic() > until:
            raise ProviderUnavailableError(f"{what} cannot be listed now: the store is too slow")
    code = store_code(bytes(body)) if answer.status_code >= 400 else ""
    if code in PASSING:
        raise _BusyError(f"answered {answer.status_code} {code}")
    kept = {name: answer.headers[name] for name in _KEPT if name in answer.headers}
    return httpx.Response(answer.status_code, headers=kept, content=bytes(body))


def parse_xml(body: bytes, what: str) -> ET.Element:
    """Parse a document without its namespaces. Documents with a DTD, which could define entities, are refused.

    Raises LaunchRefusedError when it is no such document.
    """
    try:
        text = body.decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise refused(f"{what}: the listing has a DTD")
        root = ET.fromstring(text)  # noqa: S314 - without a DTD there are no entities to expand
    except (UnicodeDecodeError, ET.ParseError, ValueError):
        raise refused(f"{what} did not answer with a listing") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root
