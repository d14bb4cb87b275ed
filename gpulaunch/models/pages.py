"""Paths of the app itself, which people copy from their browser together with its address."""

import re

_PAGES = re.compile(
    r"/(costs|deploy|launch|settings|signin|(instances|endpoints)(/.*)?"
    r"|api(/(catalog|config|costs|docs|endpoints|garbage|health|instances|nodes|openapi\.json|plans|quota)(/.*)?)?)/?"
)


def is_page(path: str) -> bool:
    """Whether a path belongs to the app; a proxy in front may have another one, such as `/api/gpulaunch`."""
    return _PAGES.fullmatch(path) is not None
