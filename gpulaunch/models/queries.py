"""Query parameters: one model per call. They validate, describe the parameters for OpenAPI, and serve the client.

Values arrive as text, and only the documented spelling of each is accepted: Pydantic alone would also read `yes` as a
boolean, a timestamp as a day, and other scripts' digits as a number.
"""

import re
from datetime import date
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from gpulaunch.models.base import Known, Outside
from gpulaunch.models.instances import Phase
from gpulaunch.models.requests import DEFAULT_PROVIDER, LABEL_KEY, ProviderName

CostsBy = Literal["day", "model", "label", "provider"]
"""What costs are grouped by."""
CostsFormat = Literal["json", "csv"]


def _whole(least: int, most: int) -> BeforeValidator:
    def read(value: object) -> int:
        text = str(value)
        if not re.fullmatch(r"-?[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise ValueError(f"A whole number from {least} to {most}.")
        return int(text)

    return BeforeValidator(read)


def _day(value: object) -> date:
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", str(value)):
            return date.fromisoformat(str(value))
    except ValueError:
        pass
    raise ValueError("A day, UTC, such as 2026-11-23.")


def _boolean(value: object) -> bool:
    if value not in ("true", "false", True, False):
        raise ValueError("Either true or false.")
    return value in ("true", True)


Day = Annotated[date, BeforeValidator(_day)]


class Query(Outside):
    """Base of query parameters. Unknown ones are errors, except what tools send to any Azure service.

    That is `code`, which holds a Functions key, and `api-version`, which Azure's SDKs add.
    """

    @model_validator(mode="before")
    @classmethod
    def _without_tools(cls, given: Any) -> Any:
        if isinstance(given, dict):
            return {
                name: value
                for name, value in cast("dict[str, Any]", given).items()
                if name not in ("code", "api-version")
            }
        return given

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The parameters as they are written in an address."""
        return tuple(field.alias or name for name, field in cls.model_fields.items())

    @classmethod
    def text(cls, **given: object) -> dict[str, str]:
        """The parameters as they are sent, without those that are None. The app validates them, not the client."""
        values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        made = cls.model_construct(set(values), **values)
        sent = made.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
        return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in sent.items()}


class InstanceQuery(Query):
    """`GET /api/instances`."""

    phase: Annotated[Phase | None, Known, Field(description="Only instances in this phase.")] = None
    provider: Annotated[ProviderName | None, Field(description="Only instances of this provider.")] = None
    label: Annotated[str | None, Field(description="Only instances with this label: `key` or `key=value`.")] = None
    live: Annotated[
        bool | None, Field(description="true: only live instances; false: only ended ones."), BeforeValidator(_boolean)
    ] = None
    page_size: Annotated[int, Field(ge=1, le=200, description="At most this many."), _whole(1, 200)] = 50
    continuation_token: Annotated[str | None, Field(description="`next_token` of the previous page.")] = None

    @property
    def label_filter(self) -> tuple[str, str | None] | None:
        """The label's key, and its value where one is asked for."""
        key, equals, value = (self.label or "").partition("=")
        # Without a key, as in `=x`, it is a label that no instance has.
        return (key, value if equals else None) if self.label else None


class EventQuery(Query):
    """`GET /api/instances/{instanceId}/events`."""

    after: Annotated[
        int, Field(ge=-1, le=1_000_000, description="Only events with a higher sequence."), _whole(-1, 1_000_000)
    ] = -1


class CatalogQuery(Query):
    """`GET /api/catalog`."""

    provider: Annotated[ProviderName, Field(description="The provider.")] = DEFAULT_PROVIDER
    region: Annotated[str | None, Field(description="Only offers in this region.")] = None
    gpu: Annotated[str | None, Field(description="Only offers with this GPU.")] = None


class CostsQuery(Query):
    """`GET /api/costs`."""

    first_day: Annotated[
        Day | None, Field(alias="from", description="First day, UTC; by default the first of `to`'s month.")
    ] = None
    last_day: Annotated[Day | None, Field(alias="to", description="Last day, UTC, included; by default today.")] = None
    by: Annotated[CostsBy, Field(description="What costs are grouped by.")] = "day"
    label: Annotated[str | None, Field(description="With by=label: a label's key, to group by its values.")] = None
    format: Annotated[CostsFormat | None, Field(description="The format of the answer.")] = None

    @field_validator("label")
    @classmethod
    def _key_of_by_label(cls, label: str | None, info: ValidationInfo) -> str | None:
        if label is not None and (info.data.get("by", "label") != "label" or not re.fullmatch(LABEL_KEY, label)):
            raise ValueError("A label's key, with by=label.")
        return label


class QuotaQuery(Query):
    """`GET /api/quota`."""

    region: Annotated[
        str | None, Field(description="Regions, separated by commas; by default those of live instances.")
    ] = None

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions asked for; empty for those of live instances."""
        return tuple(name.strip() for name in (self.region or "").split(",") if name.strip())
