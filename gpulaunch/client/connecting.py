"""How the app is reached, and in what words it is said that it is not."""

import asyncio
import importlib.util
import ipaddress
import math
import os
import socket
import ssl
from collections.abc import Iterator
from urllib.request import getproxies, proxy_bypass

import httpx

from gpulaunch.client.errors import ConnectionSetupError, NoAnswerError
from gpulaunch.deadlines import within
from gpulaunch.proxies import socks_proxy


def uses_environment(address: str) -> bool:
    """Whether proxies of the environment apply: no proxy leads to a program on this machine."""
    host = httpx.URL(address).host
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost" and not host.endswith(".localhost")


def past_proxies(address: str) -> dict[str, None]:
    """What httpx takes as `mounts`: the default transport instead of the environment's proxies, where none applies."""
    return {} if uses_environment(address) else {"http://": None, "https://": None, "all://": None}


def trusts_environment(address: str) -> bool:
    """What httpx takes as `trust_env`: it makes a transport of every proxy there is, and fails at a SOCKS one.

    Raises:
        ConnectionSetupError: The environment names a proxy for this address that httpx cannot use.
    """
    socks = None if importlib.util.find_spec("socksio") else socks_proxy(os.environ)
    if socks is not None and uses_environment(address):
        raise ConnectionSetupError(
            "proxy", f"{socks} is a SOCKS proxy. Name an http:// one, or install httpx with `pip install httpx[socks]`."
        )
    return socks is None


async def exchanged(http: httpx.Client | httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """The answer to a request. It comes within the client's limits for connecting and for reading, together.

    httpx limits each read: a server that sends a byte now and then would go on for ever.

    Raises:
        NoAnswerError: There is none.
    """
    limits = (http.timeout.connect, http.timeout.read)
    longest = None if None in limits else sum(limit for limit in limits if limit is not None)
    try:
        if isinstance(http, httpx.AsyncClient):
            async with asyncio.timeout(longest):
                return await http.send(request)
        return within(math.inf if longest is None else longest, lambda: http.send(request))
    except httpx.RequestError as error:
        raise no_answer(error) from error
    except TimeoutError as error:
        raise no_answer(httpx.ReadTimeout("", request=request)) from error


def no_answer(error: httpx.RequestError) -> NoAnswerError:
    """What a failed exchange means to the caller: what is wrong, and what to do."""
    url = error.request.url
    where = f"{url.scheme}://{url.netloc.decode()}"
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ConnectionSetupError(
                "tls",
                f"The certificate of {where} is not trusted: {cause.verify_message}. If it is your organization's, set "
                "SSL_CERT_FILE to a file with its CA.",
            )
        if isinstance(cause, ssl.SSLError):
            return ConnectionSetupError("tls", f"{where} does not speak TLS as expected ({cause.reason}). {_TLS}")
    proxy = _proxy_of(url)
    if isinstance(error, httpx.ProxyError):
        return ConnectionSetupError("proxy", f"The proxy {proxy} does not let {where} through: {error}. {_PROXY}")
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return NoAnswerError(f"{where} did not answer in time")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        if proxy:
            return ConnectionSetupError("proxy", f"Cannot reach the proxy {proxy}, which {where} is behind. {_PROXY}")
        return NoAnswerError(f"Cannot reach {where}: {_why(error, causes, url.host)}")
    return NoAnswerError(f"{where} closed the connection: {error or type(error).__name__}")


_TLS = "Is the address right? One with http:// is not encrypted."
_PROXY = "Check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY; NO_PROXY names hosts that need none."


def _why(error: httpx.RequestError, causes: list[BaseException], host: str) -> str:
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return f"the name {host} cannot be looked up. Is it spelled right, and is this machine online?"
        if isinstance(cause, ConnectionRefusedError):
            return "nothing listens there. Is the app running, and is the port right?"
    if isinstance(error, httpx.ConnectTimeout):
        return "connecting timed out. Is a firewall or a VPN in between?"
    return str(error) or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those that it was raised from, or while handling."""
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        left += [inner for inner in (one.__cause__, one.__context__) if inner is not None]


def _proxy_of(url: httpx.URL) -> str:
    """The proxy that the environment names for an address, without its user and password; empty: none."""
    if not uses_environment(str(url)) or proxy_bypass(url.host):
        return ""
    proxies = getproxies()
    found = proxies.get(url.scheme) or proxies.get("all") or ""
    return found if "@" not in found else found.partition("://")[0] + "://" + found.rpartition("@")[2]
