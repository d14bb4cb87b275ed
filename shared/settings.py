"""All settings, read once from the environment; a wrong value stops the app with one clear line."""

import json
import os
import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, cast, get_args

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gpulaunch.models.requests import LABEL_KEY, LABEL_VALUE, ProviderName
from gpulaunch.models.vllm_arguments import refusal_of_ours
from gpulaunch.proxies import socks_proxy
from shared.domain.setting_addresses import check_place, checked_region
from shared.domain.setting_values import check_secret, check_text, check_url, cleaned, is_in_clear, is_weak
from shared.domain.webhook import Webhook, check_address, read_hooks, signing_key
from shared.errors import SettingsError

DEVELOPMENT_KEY: Final = "only-for-development-on-ones-own-machine"
"""Stands in for the master key where `AZURE_FUNCTIONS_ENVIRONMENT=Development`; published, so refused elsewhere."""


class Settings(BaseSettings):
    """The settings. Names with `GPULAUNCH_` are ours; the others belong to Azure Functions, SkyPilot, R2 or the Hub."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=True, env_ignore_empty=True)

    orchestrator: Literal["auto", "skypilot", "simulation"] = Field("auto", alias="GPULAUNCH_ORCHESTRATOR")
    """auto: SkyPilot where it is enabled, else simulation; skypilot: never a simulation; simulation: no machine."""
    admin_tokens: Annotated[tuple[SecretStr, ...], NoDecode] = Field((), alias="GPULAUNCH_ADMIN_TOKENS")
    """Tokens that may do everything, separated by commas; several at once for rotation; each 16 characters or more."""
    read_tokens: Annotated[tuple[SecretStr, ...], NoDecode] = Field((), alias="GPULAUNCH_READ_TOKENS")
    """Tokens that may only look, separated by commas."""
    deploy_tokens: Annotated[tuple[SecretStr, ...], NoDecode] = Field((), alias="GPULAUNCH_DEPLOY_TOKENS")
    """For `python -m deploy check`, which makes one for each check; they may only look, and launch simulations."""
    master_key: SecretStr | None = Field(None, alias="GPULAUNCH_MASTER_KEY")
    """Key from which node tokens and endpoint keys are derived; 32 characters or more."""
    public_url: str | None = Field(None, alias="GPULAUNCH_PUBLIC_URL")
    """Address at which nodes reach this app, such as https://app.azurewebsites.net; unset: nodes are asked instead."""
    gateway_url: str | None = Field(None, alias="GPULAUNCH_GATEWAY_URL")
    """Address at which applications reach the gateway; unset: endpoints show none."""
    workspace: str = Field("default", alias="GPULAUNCH_WORKSPACE", pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    """Name of the partition that holds all rows; two workspaces in one storage account don't see each other."""
    deployment: str | None = Field(None, alias="GPULAUNCH_DEPLOYMENT", pattern=r"^[a-z2-7]{16}$")
    """The identity that a new table begins with, after the old one was lost; unset: a new identity."""
    simulation_speed: float = Field(1.0, alias="GPULAUNCH_SIMULATION_SPEED", gt=0, le=10_000)
    """How many simulated seconds pass in one second."""
    default_lifetime_minutes: int = Field(720, alias="GPULAUNCH_DEFAULT_LIFETIME_MINUTES", ge=1, le=43_200)
    """Lifetime of a launch that names none: half a day bounds what a forgotten one can cost."""
    default_idle_minutes: int | None = Field(None, alias="GPULAUNCH_DEFAULT_IDLE_MINUTES", ge=1, le=43_200)
    """Idle time of a launch that names none; unset: idle nodes live until their deadline."""
    monthly_budget_usd: float | None = Field(None, alias="GPULAUNCH_MONTHLY_BUDGET_USD", ge=0, le=1e9)
    """What all launches accepted in a month, UTC, may cost at worst; unset: no such limit."""
    label_budgets: Annotated[dict[str, Annotated[float, Field(ge=0, le=1e9)]], NoDecode] = Field(
        {}, alias="GPULAUNCH_LABEL_BUDGETS"
    )
    """The same for launches with a label: `team=a:100,team=b:50`, or a JSON object."""
    budget_action: Literal["keep", "end"] = Field("keep", alias="GPULAUNCH_BUDGET_ACTION")
    """What becomes of running instances when a budget is really used up; new ones are refused in any case."""
    max_instances: int | None = Field(None, alias="GPULAUNCH_MAX_INSTANCES", ge=0)
    """Live instances at once; 0: no new ones."""
    max_gpus: int | None = Field(None, alias="GPULAUNCH_MAX_GPUS", ge=0)
    """GPUs of all live instances."""
    label_max_instances: Annotated[dict[str, Annotated[int, Field(ge=0)]], NoDecode] = Field(
        {}, alias="GPULAUNCH_LABEL_MAX_INSTANCES"
    )
    """Live instances with a label: `team=a:3,team=b:1`, or a JSON object."""
    label_max_gpus: Annotated[dict[str, Annotated[int, Field(ge=0)]], NoDecode] = Field(
        {}, alias="GPULAUNCH_LABEL_MAX_GPUS"
    )
    allowed_providers: Annotated[tuple[str, ...], NoDecode] = Field((), alias="GPULAUNCH_ALLOWED_PROVIDERS")
    """Allowed providers, separated by commas; all if unset. The same for regions, types and GPUs."""
    allowed_regions: Annotated[tuple[str, ...], NoDecode] = Field((), alias="GPULAUNCH_ALLOWED_REGIONS")
    allowed_types: Annotated[tuple[str, ...], NoDecode] = Field((), alias="GPULAUNCH_ALLOWED_TYPES")
    allowed_gpus: Annotated[tuple[str, ...], NoDecode] = Field((), alias="GPULAUNCH_ALLOWED_GPUS")
    max_lifetime_minutes: int | None = Field(None, alias="GPULAUNCH_MAX_LIFETIME_MINUTES", ge=1, le=43_200)
    """Longest lifetime that a launch may request; the default lifetime is capped to it."""
    launches_per_minute: int | None = Field(None, alias="GPULAUNCH_LAUNCHES_PER_MINUTE", ge=0, le=1000)
    """Launches accepted in any 60 seconds."""
    lease_seconds: int = Field(900, alias="GPULAUNCH_LEASE_SECONDS", ge=60, le=86_400)
    """How long a node runs without contact: long enough for a deployment or a short storage outage."""
    node_port: int | None = Field(8000, alias="GPULAUNCH_NODE_PORT", ge=1, le=65_535)
    """vLLM's port on dedicated machines; on Slurm, where nodes are shared, a free port is chosen."""
    vllm_requirement: str = Field(
        "vllm==0.32.0", alias="GPULAUNCH_VLLM_REQUIREMENT", pattern=r"^[A-Za-z0-9._\[\]=<>!~,+-]+$"
    )
    """What is installed on a node, as a pip requirement."""
    vllm_executable: str | None = Field(None, alias="GPULAUNCH_VLLM_EXECUTABLE", pattern=r"^/[A-Za-z0-9._/-]+$")
    """Path of a vllm in the nodes' image; where it exists, nothing is installed."""
    allowed_vllm_options: Annotated[tuple[str, ...], NoDecode] = Field((), alias="GPULAUNCH_ALLOWED_VLLM_OPTIONS")
    """Options of vLLM that launches may use although they run code, touch files, open addresses or are unknown here."""
    hub_token: SecretStr | None = Field(None, alias="HF_TOKEN")
    """Token for gated models of the Hugging Face Hub."""
    hub_endpoint: str = Field("https://huggingface.co", alias="HF_ENDPOINT")
    r2_endpoint: str | None = Field(None, alias="R2_ENDPOINT")
    """Address of the R2 account, https://<account>.r2.cloudflarestorage.com."""
    r2_access_key_id: SecretStr | None = Field(None, alias="R2_ACCESS_KEY_ID")
    r2_secret_access_key: SecretStr | None = Field(None, alias="R2_SECRET_ACCESS_KEY")
    r2_session_token: SecretStr | None = Field(None, alias="R2_SESSION_TOKEN")
    """Of temporary credentials; launches are refused once they have expired."""
    s3_endpoint: str | None = Field(None, alias="AWS_ENDPOINT_URL_S3")
    s3_region: Annotated[str, AfterValidator(checked_region)] = Field("us-east-1", alias="AWS_REGION")
    s3_access_key_id: SecretStr | None = Field(None, alias="AWS_ACCESS_KEY_ID")
    s3_secret_access_key: SecretStr | None = Field(None, alias="AWS_SECRET_ACCESS_KEY")
    s3_session_token: SecretStr | None = Field(None, alias="AWS_SESSION_TOKEN")
    """Of temporary credentials, whose key begins with ASIA."""
    skypilot_endpoint: str | None = Field(None, alias="SKYPILOT_API_SERVER_ENDPOINT")
    """Address of a remote SkyPilot API server; if unset, one is started on this machine when needed."""
    skypilot_token: SecretStr | None = Field(None, alias="SKYPILOT_SERVICE_ACCOUNT_TOKEN")
    skypilot_user_id: str = Field("", alias="SKYPILOT_USER_ID", pattern=r"^([0-9a-f]{8})?$")
    """Part of every cluster's name in the cloud; unset: derived from the deployment's identity."""
    azure_subscription_id: str | None = Field(
        None, alias="AZURE_SUBSCRIPTION_ID", pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
    )
    """The subscription that SkyPilot launches in; if unset, Azure is not queried (quota, lost nodes, leftovers)."""
    insights_connection: SecretStr | None = Field(None, alias="APPLICATIONINSIGHTS_CONNECTION_STRING")
    """Application Insights, for traces, metrics and log dimensions; if unset, they are not sent."""
    webhooks: Annotated[tuple[Webhook, ...], NoDecode] = Field((), alias="GPULAUNCH_WEBHOOK_URLS")
    """Receivers of alerts: `format|url`, separated by spaces or commas, or a JSON list; formats: docs/alerts.md."""
    webhook_secret: SecretStr | None = Field(None, alias="GPULAUNCH_WEBHOOK_SECRET")
    """Key that signs alerts, `whsec_` followed by base64; required for the format json."""
    webhook_events: Annotated[frozenset[str], NoDecode] = Field(
        frozenset({"alert", "poison", "ready", "recovering", "terminated", "failed"}), alias="GPULAUNCH_WEBHOOK_EVENTS"
    )
    """Events to send: `alert`, `poison`, `phase` (every change) or names of phases, separated by commas."""
    storage_connection: SecretStr | None = Field(None, alias="AzureWebJobsStorage")
    storage_account: str | None = Field(None, alias="AzureWebJobsStorage__accountName")
    storage_queue_uri: str | None = Field(None, alias="AzureWebJobsStorage__queueServiceUri")
    storage_table_uri: str | None = Field(None, alias="AzureWebJobsStorage__tableServiceUri")
    storage_client_id: str | None = Field(None, alias="AzureWebJobsStorage__clientId")
    environment: str = Field("Production", alias="AZURE_FUNCTIONS_ENVIRONMENT")
    """`Development` on a developer's machine, set by the local host."""

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, given: Any) -> Any:
        """Values without what copying left around them; empty ones are unset."""
        if not isinstance(given, dict):
            return given
        values = cast("dict[str, object]", given)
        texts = {name: cleaned(value) if isinstance(value, str) else value for name, value in values.items()}
        return {name: value for name, value in texts.items() if value != ""}

    @field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, value: object) -> object:
        if isinstance(value, str):
            check_text(value)
        return value

    @field_validator(
        "admin_tokens",
        "read_tokens",
        "deploy_tokens",
        "allowed_providers",
        "allowed_regions",
        "allowed_types",
        "allowed_gpus",
        "allowed_vllm_options",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part for part in map(cleaned, value.split(",")) if part)
        return value

    @field_validator("label_budgets", "label_max_instances", "label_max_gpus", mode="before")
    @classmethod
    def _by_label(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("{"):
            return json.loads(value)
        pairs = [part.strip().rpartition(":") for part in value.split(",") if part.strip()]
        return {label.strip(): amount.strip() for label, _, amount in pairs}

    @field_validator("label_budgets", "label_max_instances", "label_max_gpus")
    @classmethod
    def _labels(cls, amounts: dict[str, float]) -> dict[str, float]:
        for label in amounts:
            key, given, value = label.partition("=")
            if not given or not re.fullmatch(LABEL_KEY, key) or not re.fullmatch(LABEL_VALUE, value):
                raise ValueError("write each entry as a label and an amount, such as team=a:100, separated by commas")
        return amounts

    @field_validator("allowed_providers")
    @classmethod
    def _providers(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if any(name not in get_args(ProviderName) for name in names):
            raise ValueError(f"valid providers are {', '.join(get_args(ProviderName))}")
        return names

    @field_validator("allowed_vllm_options")
    @classmethod
    def _options(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if any(not re.fullmatch(r"--[a-z0-9][a-z0-9-]*", name) for name in names) or refusal_of_ours(names):
            raise ValueError("write full names such as --trust-remote-code; those that gpulaunch sets can't be allowed")
        return names

    @field_validator("admin_tokens", "read_tokens", "deploy_tokens")
    @classmethod
    def _long_enough(cls, tokens: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for token in tokens:
            # The whole value may be fine, and a part of it a reference.
            check_text(token.get_secret_value())
            check_secret(token.get_secret_value(), spaces=False)
            if len(token.get_secret_value()) < 16:
                raise ValueError("a token must have at least 16 characters; create one with `openssl rand -hex 24`")
        return tokens

    @field_validator("*")
    @classmethod
    def _whole(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, SecretStr):
            # The master key is never sent, so it may be a phrase.
            check_secret(value.get_secret_value(), spaces=info.field_name == "master_key")
        return value

    @field_validator("master_key")
    @classmethod
    def _strong(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < 32:
            raise ValueError("the master key must have at least 32 characters; create one with `openssl rand -hex 32`")
        return key

    @field_validator(
        "public_url",
        "gateway_url",
        "skypilot_endpoint",
        "r2_endpoint",
        "s3_endpoint",
        "hub_endpoint",
        "storage_queue_uri",
        "storage_table_uri",
    )
    @classmethod
    def _address(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is not None:
            check_url(url, path=info.field_name != "r2_endpoint")
            check_place(info.field_name or "", url)
        return None if url is None else url.rstrip("/")

    @field_validator("webhooks", mode="before")
    @classmethod
    def _read_webhooks(cls, value: object) -> object:
        return read_hooks(value) if isinstance(value, str) else value

    @field_validator("webhook_events", mode="before")
    @classmethod
    def _split_events(cls, value: object) -> object:
        return frozenset(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("webhook_events")
    @classmethod
    def _known_events(cls, words: frozenset[str]) -> frozenset[str]:
        from shared.domain.webhook import WORDS

        if not words <= WORDS:
            raise ValueError(f"valid events are {', '.join(sorted(WORDS))}")
        return words

    @field_validator("webhook_secret")
    @classmethod
    def _signs(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            signing_key(secret.get_secret_value())
        return secret

    @model_validator(mode="after")
    def _webhooks_can_be_called(self) -> "Settings":
        for hook in self.webhooks:
            try:
                check_address(hook, plain_http=self.development)
            except ValueError as error:
                raise ValueError(f"GPULAUNCH_WEBHOOK_URLS: {error}") from None
            if hook.format == "json" and self.webhook_secret is None:
                raise ValueError("a webhook of the format json needs GPULAUNCH_WEBHOOK_SECRET")
        return self

    @model_validator(mode="after")
    def _is_safe(self) -> "Settings":
        if found := [*self._reused(), *(() if self.development else self._unfit_for_production())]:
            raise ValueError("; ".join(found))
        return self

    def _reused(self) -> Iterator[str]:
        admin, read = ({one.get_secret_value() for one in tokens} for tokens in (self.admin_tokens, self.read_tokens))
        if admin & read:
            yield "GPULAUNCH_READ_TOKENS: a token of GPULAUNCH_ADMIN_TOKENS is in it too; make another one"
        if self.master_key is not None and self.master_key.get_secret_value() in admin | read:
            yield "GPULAUNCH_MASTER_KEY: it is a token too; make another one"

    def _unfit_for_production(self) -> Iterator[str]:
        make = "create one with `openssl rand -hex 32`"
        key = "" if self.master_key is None else self.master_key.get_secret_value()
        if not key:
            yield f"GPULAUNCH_MASTER_KEY is not set; {make}"
        elif key == DEVELOPMENT_KEY:
            yield f"GPULAUNCH_MASTER_KEY: this is the published key of developers' machines; {make}"
        elif is_weak(key):
            yield f"GPULAUNCH_MASTER_KEY: it has too few different characters; {make}"
        for name, tokens in (("ADMIN", self.admin_tokens), ("READ", self.read_tokens), ("DEPLOY", self.deploy_tokens)):
            if any(is_weak(token.get_secret_value()) for token in tokens):
                yield f"GPULAUNCH_{name}_TOKENS: a token has too few different characters; {make}"
        secrets_to = {
            "GPULAUNCH_PUBLIC_URL": self.public_url,
            "GPULAUNCH_GATEWAY_URL": self.gateway_url,
            "HF_ENDPOINT": self.hub_endpoint,
            "R2_ENDPOINT": self.r2_endpoint,
            "AWS_ENDPOINT_URL_S3": self.s3_endpoint,
            "SKYPILOT_API_SERVER_ENDPOINT": self.skypilot_endpoint if self.skypilot_token is not None else None,
            "AzureWebJobsStorage__queueServiceUri": self.storage_queue_uri,
            "AzureWebJobsStorage__tableServiceUri": self.storage_table_uri,
        }
        for name, url in secrets_to.items():
            if url is not None and is_in_clear(url):
                yield f"{name}: secrets are sent there; use https:// (http:// is allowed for localhost only)"

    @property
    def development(self) -> bool:
        return self.environment == "Development"

    @property
    def has_tokens(self) -> bool:
        return bool(self.admin_tokens or self.read_tokens)

    @property
    def open_to_all(self) -> bool:
        """Whether callers need no token: a developer's machine without any."""
        return self.development and not self.has_tokens


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: One line per wrong setting, naming it and never showing a value.
    """
    if (proxy := socks_proxy(os.environ)) is not None:
        raise SettingsError(f"{proxy} is a SOCKS proxy, which the app does not support; name an http:// one")
    try:
        return Settings()  # pyright: ignore[reportCallIssue] - every field has a default; pydantic-settings fills them
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in item['loc']) or 'settings'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise SettingsError("; ".join(lines)) from None
