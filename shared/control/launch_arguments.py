"""Check a launch's arguments for vLLM against what the deployment allows and what its rules need, and its job's."""

from collections.abc import Set
from dataclasses import dataclass

from gpulaunch.models.option_values import option_values
from gpulaunch.models.problems import FieldError
from gpulaunch.models.requests import LaunchRequest
from gpulaunch.models.vllm_arguments import read
from shared.domain.errors import InvalidFieldsError
from shared.domain.references import without_effect
from shared.planning.vllm_policy import refusals
from shared.redaction import Redactor

_NO_METRICS = "--disable-log-stats"
_NEEDS_METRICS = f"{_NO_METRICS} turns off the metrics that idle_minutes needs. Remove one of them."
_TWO_TEMPLATES = "The launch has a chat_template as well. Set one of them."
_LOOKS_LIKE_ONE = (
    "This looks like a secret, and launches are stored and shown. "
    "Remove it; HF_TOKEN and the keys of model stores belong in the app's settings."
)
_IN_A_JOB = (
    "This looks like a secret, and launches are stored and shown. Let the job read it from a file, such as one in the "
    "model's folder; the endpoint's own key is in OPENAI_API_KEY."
)


@dataclass(frozen=True)
class LaunchArguments:
    redactor: Redactor
    allowed: Set[str]
    """Names of options that the operator allows besides those that are free."""

    def check(self, request: LaunchRequest) -> None:
        """Check a request that has the deployment's defaults filled in.

        Raises:
            InvalidFieldsError: An argument is not one of vLLM's, is not allowed, or holds a secret.
        """
        secrets = [
            FieldError(field=f"vllm_args.{place}", message=_LOOKS_LIKE_ONE)
            for place, entry in enumerate(request.vllm_args)
            if self.redactor.text(entry) != entry
        ]
        if request.job is not None:
            places = self.redactor.secrets(request.job.command)
            secrets += [FieldError(field=f"job.command.{place}", message=_IN_A_JOB) for place in places]
        if secrets:
            # Alone: other messages repeat parts of arguments, which may be parts of the secret.
            raise InvalidFieldsError(secrets)
        found = refusals(request.vllm_args, self.allowed)
        found += [_problem(place, why) for place, why in without_effect(request.vllm_args, request.model_source)]
        if request.chat_template is not None:
            values = option_values(request.vllm_args)
            found += [_problem(one.place, _TWO_TEMPLATES) for one in values if one.option == "chat-template"]
        if request.idle_minutes is not None:
            given = enumerate(map(read, request.vllm_args))
            found += [
                _problem(place, _NEEDS_METRICS) for place, one in given if one is not None and one.flag == _NO_METRICS
            ]
        if found:
            raise InvalidFieldsError(found)


def _problem(place: int, message: str) -> FieldError:
    return FieldError(field=f"vllm_args.{place}", message=message)
