"""What is found of a model before a node is paid for, as records keep it."""

from gpulaunch.models.base import Kept, UtcTime


class ExtraFacts(Kept):
    """What vLLM needs beside the model: an adapter, a draft model, a tokenizer."""

    name: str
    """On the Hub, as the arguments have it."""
    revision: str = "main"
    repository: str
    """Its name on the Hub today."""
    commit: str | None = None
    total_bytes: int


class ModelFacts(Kept):
    source: str
    """Where the model is, for people, with the commit if it has one: `hf://org/model@4e20de36…`."""
    repository: str | None = None
    """Its name on the Hub today, which renaming changes; None: it is not on the Hub."""
    commit: str | None = None
    """The commit that its revision named at the launch; every node of the instance fetches this one."""
    newest: UtcTime | None = None
    """Of a bucket: when the newest of its files was stored. Every node of the instance fetches the versions of then."""
    total_bytes: int
    """All files that a node fetches, those of adapters and the like included."""
    weight_bytes: int
    """The files of weights alone."""
    largest_bytes: int = 0
    """The largest file of weights."""
    pickled: bool = False
    """The weights are PyTorch's own files, which are read into the host's memory as a whole."""
    parameters: dict[str, int] = {}
    """Number of parameters by the type they are stored in (`BF16`, `F8_E4M3`, `I32`), from the files' own headers;
    empty: unknown. Packed types count as they are stored."""
    draft_bytes: int = 0
    """Weights of a draft model and of adapters, which the GPU holds as well."""
    extras: list[ExtraFacts] = []
    """Whatever else a node fetches, included in `total_bytes`."""
    cache_bytes: int | None = None
    """Keys and values of one token at 16 bits, from the model's configuration; None: it does not tell."""
    context: int | None = None
    """The longest context that the model was made for, in tokens."""
    longest: int | None = None
    """The longest context that vLLM lets it have; None: that does not follow from its configuration for certain."""
    heads: int | None = None
    """Its attention heads."""

    @property
    def words(self) -> str:
        return f"{self.source}, {self.total_bytes / 1e9:.1f} GB"

    def pinned_extra(self, name: str, revision: str) -> tuple[str, str]:
        """Repository and commit by which something beside the model is fetched."""
        for extra in self.extras:
            if (extra.name, extra.revision) == (name, revision) and extra.commit is not None:
                return extra.repository, extra.commit
        return name, revision

    @property
    def pinned_source(self) -> str | None:
        """What names exactly these files to whoever asks for them later; None: the source has no versions."""
        return None if self.commit is None else f"hf://{self.repository}@{self.commit}"
