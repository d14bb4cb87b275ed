"""The part of azd's commands that the project names, with their flags: azd is a Go program, in no package registry.

From azd's own record of its help texts, `cli/azd/cmd/testdata/TestUsage-azd-*.snap` of Azure/azure-dev: `provision` at
06fa759, `up` and `deploy` at 04d5d73, `down` and `env set` at bfcd3d7 and later, `auth login` and `pipeline config` at
08e685a, `env get-values` at 13e31bc.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_GLOBAL = {"--cwd", "-C", "--debug", "--docs", "--help", "-h", "--no-prompt"}
_ENVIRONMENT = {"--environment", "-e"}


@dataclass(frozen=True)
class Usage:
    """What a command takes; `values` are those of its flags that take one."""

    arguments: range = range(1)
    flags: frozenset[str] = frozenset()
    values: frozenset[str] = frozenset(_ENVIRONMENT)


def _usage(most: int = 0, *, least: int = 0, flags: Sequence[str] = (), values: Sequence[str] = ()) -> Usage:
    return Usage(range(least, most + 1), frozenset(flags), frozenset({*values, *_ENVIRONMENT}))


USAGES: Mapping[str, Usage] = {
    "auth login": _usage(
        flags=("--check-status", "--managed-identity", "--use-device-code"),
        values=(
            *("--client-certificate", "--client-id", "--client-secret", "--federated-credential-provider"),
            *("--redirect-port", "--tenant-id"),
        ),
    ),
    "deploy": _usage(1, flags=("--all",), values=("--from-package", "--timeout")),
    "down": _usage(flags=("--force", "--purge")),
    "env get-value": _usage(1, least=1),
    "env get-values": _usage(flags=("--export",)),
    "env new": _usage(1, least=1, values=("--location", "-l", "--subscription")),
    "env set": _usage(2, least=2),
    "pipeline config": _usage(values=("--auth-type", "--principal-id", "--principal-name", "--provider")),
    "provision": _usage(1, flags=("--no-state", "--preview")),
    "up": _usage(values=("--location", "-l", "--subscription")),
}


def against(words: Sequence[str]) -> str:
    """What speaks against a command, given without `azd`; empty: nothing."""
    name = next((name for name in (" ".join(words[:2]), words[0]) if name in USAGES), None)
    if name is None:
        return f"{' '.join(words[:2])} is not among the commands that are known here"
    usage, given, arguments = USAGES[name], iter(words[len(name.split()) :]), 0
    for word in given:
        flag, equals, _ = word.partition("=")
        if not word.startswith("-"):
            arguments += 1
        elif flag in usage.values:
            if not equals and next(given, None) is None:
                return f"{flag} of {name} needs a value"
        elif flag not in usage.flags | _GLOBAL:
            return f"{name} has no {flag}"
    return "" if arguments in usage.arguments else f"{name} does not take {arguments} arguments"
