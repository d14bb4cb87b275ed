"""What an answer says of an instance's model."""

from typing_extensions import TypeAliasType

from gpulaunch.models.base import Answer, Wide

ParameterCounts = TypeAliasType("ParameterCounts", dict[str, Wide])
"""A schema of its own, with a name for those who generate clients."""


class ModelView(Answer):
    """The model as it was found before a node was paid for."""

    source: str
    """Where it is; of the Hub with the commit that all nodes of the instance serve: `hf://org/model@4e20de36…`."""
    commit: str | None
    """The Hub's commit."""
    total_bytes: Wide
    """Size of the files that a node downloads."""
    parameters: ParameterCounts
    """Number of parameters by the type they are stored in, from the files themselves; empty if unknown."""
