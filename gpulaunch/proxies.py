"""Proxies of the environment that httpx and the storage SDK cannot use."""

from collections.abc import Mapping

_NAMES = ("http_proxy", "https_proxy", "all_proxy")


def socks_proxy(environment: Mapping[str, str]) -> str | None:
    """The variable that names a SOCKS proxy, which takes packages that gpulaunch does without; None: there is none."""
    for name in (*_NAMES, *(name.upper() for name in _NAMES)):
        if environment.get(name, "").strip().lower().startswith("socks"):
            return name
    return None
