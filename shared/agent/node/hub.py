"""The Hugging Face Hub: which files of a model are needed, and their addresses."""

from __future__ import annotations

import re
import threading
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from shared.agent.node.clock import NodeClock
from shared.agent.node.errors import NETWORK_ERRORS, FetchError, RetryableError, retry
from shared.agent.node.transport import Http, retry_after


def wanted(names: Sequence[str], args: Sequence[str]) -> list[str]:
    """The files of a Hub repository that vLLM needs: one kind of weights, configuration, tokenizer, code."""
    kept = [
        name
        for name in names
        if not name.startswith((".", "original/", "onnx/", "openvino/", "assets/", "figures/", "coreml/"))
        and not re.search(r"\.(gguf|onnx|onnx_data|h5|msgpack|ot|tflite|mlmodel|md|png|jpe?g|gif|svg|pdf|mp4)$", name)
    ]
    safetensors = [name for name in kept if name.endswith(".safetensors")]
    if safetensors:
        kept = [name for name in kept if not re.search(r"\.(bin|pth|pt|ckpt)$|\.bin\.index\.json$", name)]
        # Mistral's repositories hold every weight twice; the second set is for its own loader.
        duplicates = [name for name in safetensors if name.startswith("consolidated")]
        if duplicates and len(duplicates) < len(safetensors) and not any("mistral" in arg for arg in args):
            kept = [name for name in kept if not name.startswith("consolidated")]
    elif any(name.endswith(".bin") for name in kept):
        kept = [name for name in kept if not name.endswith((".pth", ".ckpt"))]
    return kept


class Hub:
    def __init__(self, assignment: Mapping[str, Any], transport: Http, clock: NodeClock, stop: threading.Event) -> None:
        self._model, self._endpoint = assignment["hub_model"], assignment["hub_endpoint"].rstrip("/")
        self._args, token = assignment["vllm_args"], assignment.get("hub_token")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http, self._clock, self._stop = transport, clock, stop

    def files(self) -> list[dict[str, Any]]:
        """The files to fetch, all of one revision.

        Raises:
            FetchError: There is no such model, no access, no usable weights, or no answer after some minutes.
            StoppedError: The agent is ending.
        """
        return self._choose(retry(self._model, self._list, self._clock, self._stop))

    def _list(self) -> dict[str, Any]:
        url = f"{self._endpoint}/api/models/{self._model}/revision/main?blobs=true"
        try:
            answer = self._http.json("GET", url, self.headers, timeout=30)
        except NETWORK_ERRORS as error:
            raise RetryableError(f"the Hub does not list its files: {error}") from error
        if answer.status in (401, 403):
            raise FetchError(f"{self._model}: not found, or gated and HF_TOKEN has no access")
        if answer.status == 404:
            raise FetchError(f"{self._model}: the Hub has no such model")
        if answer.status != 200 or answer.data is None:
            reason = f"the Hub does not list its files: answered {answer.status}"
            raise RetryableError(reason, retry_after(answer.headers))
        return answer.data

    def _choose(self, listing: Mapping[str, Any]) -> list[dict[str, Any]]:
        sizes = {entry["rfilename"]: entry.get("size") for entry in listing["siblings"]}
        names = wanted(list(sizes), self._args)
        if not any(name.endswith((".safetensors", ".bin", ".pt", ".pth")) for name in names):
            raise FetchError(f"{self._model}: no weights that vLLM can load (safetensors or bin)")
        base = f"{self._endpoint}/{self._model}/resolve/{listing.get('sha') or 'main'}"
        return [{"path": name, "url": f"{base}/{urllib.parse.quote(name)}", "size": sizes[name]} for name in names]
