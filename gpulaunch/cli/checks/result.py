"""The outcome of a check."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Check(BaseModel):
    """One thing looked at."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: Literal["ok", "note", "warning", "failed"]
    """note: nothing is wrong, but something is not there that some need."""
    detail: str
    advice: str = ""
    """What to do about it."""
