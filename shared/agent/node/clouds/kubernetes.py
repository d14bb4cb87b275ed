"""Kubernetes: a pod deletes itself by its service account; without that right the agent ends and the pod stays."""

from __future__ import annotations

import os
import socket
import ssl
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from shared.agent.node.clouds.base import SUCCESS, CloudNode
from shared.agent.node.transport import within

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SECONDS = 15.0
"""The cluster's API answers in milliseconds, or seconds while its store elects a leader."""


class KubernetesPod(CloudNode):
    """A pod; its notice is SIGTERM."""

    def endings(self) -> Sequence[Callable[[], bool]]:
        return [self.delete]

    def delete(self) -> bool:
        token, namespace = ((ACCOUNT / name).read_text() for name in ("token", "namespace"))
        host = f"{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
        url = f"https://{host}/api/v1/namespaces/{namespace}/pods/{socket.gethostname()}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"}, method="DELETE")
        context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))

        def ask() -> bool:
            with urllib.request.urlopen(request, timeout=SECONDS, context=context) as answer:  # noqa: S310 - the cluster's own API
                return answer.status in SUCCESS

        return within(SECONDS, ask)
