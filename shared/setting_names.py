"""Names in the environment that are almost those of settings: they have no effect, which nothing else would say."""

import difflib
from collections.abc import Iterable, Iterator

from shared.settings import Settings

_OURS = "GPULAUNCH_"
_OTHERS = frozenset({"URL", "TOKEN", "GATEWAY_KEY", "GATEWAY_KEY_URL", "MAX_APP_INSTANCES"})
"""Of the command, the gateway and `infra/`, which may share an environment with the app."""
_ALIKE = 0.85


def misspelled(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each name that is not a setting's, with the one that was probably meant."""
    known = {field.alias for field in Settings.model_fields.values() if field.alias}
    ours = {name.removeprefix(_OURS) for name in known if name.startswith(_OURS)}
    for name in sorted(set(names) - known):
        if name.upper() in known:
            yield name, name.upper()
        elif name.startswith(_OURS) and name.removeprefix(_OURS) not in _OTHERS:
            near = difflib.get_close_matches(name.removeprefix(_OURS), ours, n=1, cutoff=_ALIKE)
            if near:
                yield name, f"{_OURS}{near[0]}"
