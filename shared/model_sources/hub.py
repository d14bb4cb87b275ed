"""The Hugging Face Hub: which files a model has at one commit, and whether we may read them."""

from collections.abc import Mapping
from urllib.parse import quote, urljoin, urlsplit

import httpx
from pydantic import Field, SecretStr, ValidationError

from gpulaunch.models.base import Stored
from shared.domain.node import FileChecksum, ModelFile
from shared.domain.provider import ProviderUnavailableError
from shared.model_sources.base import HubSource, ModelListing, is_safe_path, refused
from shared.model_sources.web import Web
from shared.model_sources.weights import is_weight, no_weights, some, wanted

_REDIRECTS = 5
_GATED = "GatedRepo"


class _Large(Stored):
    sha256: str


class _Sibling(Stored):
    rfilename: str
    size: int | None = None
    blob: str | None = Field(None, alias="blobId")
    lfs: _Large | None = None

    def file(self, url: str) -> ModelFile:
        checksum = None
        if self.lfs is not None:
            checksum = FileChecksum(algorithm="sha256", digest=self.lfs.sha256)
        elif self.blob is not None:
            checksum = FileChecksum(algorithm="git", digest=self.blob)
        return ModelFile(path=self.rfilename, url=url, size=self.size, checksum=checksum)


class _Tensors(Stored):
    parameters: dict[str, int] = {}


class _Listing(Stored):
    id: str | None = None
    """Its name today, whatever it was asked for by."""
    sha: str | None = None
    siblings: list[_Sibling] = []
    safetensors: _Tensors | None = None


class Hub:
    """A Hub, or a mirror of it."""

    def __init__(self, endpoint: str, token: SecretStr | None, web: Web) -> None:
        self._endpoint, self._web = endpoint, web
        self.headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}

    def listing(self, source: HubSource, args: list[str], *, whole_model: bool = True) -> ModelListing:
        """The files that vLLM needs, all of the commit that the revision names now.

        `whole_model`: there have to be weights, as there need not be for a tokenizer.

        Raises:
            LaunchRefusedError: There is no such model or revision, it may not be read, or has nothing for vLLM.
            ProviderUnavailableError: No answer now.
        """
        address = f"{self._endpoint}/api/models/{quote(source.model)}/revision/{quote(source.revision, safe='')}"
        answer = self._get(f"{address}?blobs=true", source.name)
        if answer.status_code != 200:
            raise self._refusal(source, answer)
        try:
            found = _Listing.model_validate_json(answer.content)
        except ValidationError as error:
            message = f"{source.name} cannot be listed now: the Hub's answer is not a listing"
            raise ProviderUnavailableError(message) from error
        model = found.id or source.model
        entries = {entry.rfilename: entry for entry in found.siblings}
        names = wanted([name for name in entries if is_safe_path(name)], args)
        if whole_model and not any(map(is_weight, names)):
            raise refused(_nothing_to_serve(source.name, list(entries), args))
        base = f"{self._endpoint}/{model}/resolve/{found.sha or quote(source.revision, safe='')}"
        return ModelListing(
            [entries[name].file(f"{base}/{quote(name)}") for name in names],
            hub_model=model,
            commit=found.sha,
            parameters={} if found.safetensors is None else found.safetensors.parameters,
            skipped=[name for name in entries if not is_safe_path(name)],
        )

    def read(self, source: HubSource, file: ModelFile, headers: Mapping[str, str]) -> httpx.Response:
        """A file's content, wherever the Hub keeps it.

        A gated model is listed for everybody, so this alone proves that we may read it.

        Raises:
            LaunchRefusedError: It cannot be read.
            ProviderUnavailableError: No answer now.
        """
        answer = self._get(file.url, source.name, headers, leaving=True)
        if answer.status_code not in (200, 206):
            raise self._refusal(source, answer)
        return answer

    def _get(
        self, url: str, what: str, headers: Mapping[str, str] | None = None, *, leaving: bool = False
    ) -> httpx.Response:
        """Follow redirects, as of a renamed model.

        `leaving`: also to the storage behind the Hub, without the token.
        """
        sent = {**self.headers, **(headers or {})}
        for _ in range(_REDIRECTS):
            answer = self._web.get(url, sent, what)
            if answer.status_code not in (301, 302, 303, 307, 308):
                return answer
            target = urljoin(url, answer.headers.get("Location", ""))
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                if not leaving:
                    host = urlsplit(target).netloc
                    raise refused(f"{what}: the Hub redirects to {host}; set HF_ENDPOINT if that is right")
                sent.pop("Authorization", None)
            url = target
        raise refused(f"{what}: the Hub redirects in a circle")

    def _refusal(self, source: HubSource, answer: httpx.Response) -> Exception:
        code, status, token = answer.headers.get("X-Error-Code", ""), answer.status_code, bool(self.headers)
        page = f"{self._endpoint}/{source.model}"
        if code == _GATED:
            who = "the account of HF_TOKEN has no access" if token else "HF_TOKEN is not set"
            advice = f"accept its terms at {page} and set HF_TOKEN to a token of that account"
            return refused(f"{source.name} is gated, and {who}; {advice}")
        if code == "RevisionNotFound":
            return refused(f"{source.model} has no revision {source.revision}; see {page}/refs")
        if token and status == 401 and not code:
            # The Hub answers so for whatever is asked for, models without a gate included.
            said = answer.headers.get("X-Error-Message", "")[:100] or "401"
            return refused(f"the Hub does not know HF_TOKEN ({said}); it may have expired. Set a valid one, or none")
        if status in (401, 403, 404):
            private = "the account of HF_TOKEN cannot see it" if token else "it is private and HF_TOKEN is not set"
            return refused(f"{source.name}: the Hub has no such model, or {private}; check the name at {page}")
        return ProviderUnavailableError(
            f"{source.name} cannot be listed now: the Hub answered {status} {code}".rstrip()
        )


def _nothing_to_serve(name: str, names: list[str], args: list[str]) -> str:
    if "adapter_config.json" in names:
        option = f"--lora-modules name={name.removeprefix('hf://')}"
        return f"{name} is an adapter; launch its base model with --enable-lora and {option}"
    gguf = [one for one in names if one.endswith(".gguf")]
    if gguf:
        return f"{name} has weights in GGUF only ({some(gguf)}); choose a repository with safetensors"
    return no_weights(name, args)
