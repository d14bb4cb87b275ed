"""Vocabulary of instances: modes, phases, reasons and event types."""

from typing import Literal

from gpulaunch.models.base import OpenEnum

INSTANCE_ID = r"^inst-[0-7][0-9A-HJKMNP-TV-Z]{25}$"
ID_END = r"^[0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{5,26}$"
"""The end of an id, by which people call an instance: two live ones that end alike are one in a million at most."""
"""`inst-` and a ULID: 48 bits of inverted time, 80 of chance, in Crockford's base 32."""
Mode = Literal["real", "simulation"]


class Phase(OpenEnum):
    """Phase of an instance."""

    QUEUED = "queued"
    VALIDATING = "validating"
    PROVISIONING = "provisioning"
    INSTALLING = "installing"
    LOADING_MODEL = "loading_model"
    STARTING_SERVER = "starting_server"
    REGISTERING = "registering"
    READY = "ready"
    RECOVERING = "recovering"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether the phase is final."""
        return self in (Phase.TERMINATED, Phase.FAILED)


STARTING = (
    Phase.QUEUED,
    Phase.VALIDATING,
    Phase.PROVISIONING,
    Phase.INSTALLING,
    Phase.LOADING_MODEL,
    Phase.STARTING_SERVER,
    Phase.REGISTERING,
)
"""The phases from acceptance to ready, in order."""


class Reason(OpenEnum):
    """Why an attempt failed or an instance ends. The codes are stable."""

    # why an attempt failed while provisioning
    NO_CAPACITY = "no_capacity"
    QUOTA_EXCEEDED = "quota_exceeded"
    PERMISSION_DENIED = "permission_denied"
    IMAGE_UNAVAILABLE = "image_unavailable"
    NETWORK_FAILED = "network_failed"
    SETUP_FAILED = "setup_failed"
    INVALID_TASK = "invalid_task"
    PROVISIONING_FAILED = "provisioning_failed"
    PROVISIONING_TIMEOUT = "provisioning_timeout"
    # why an attempt failed after provisioning
    INSTALL_FAILED = "install_failed"
    MODEL_FETCH_FAILED = "model_fetch_failed"
    SERVER_FAILED = "server_failed"
    PORT_TAKEN = "port_taken"
    INSTALL_TIMEOUT = "install_timeout"
    MODEL_TIMEOUT = "model_timeout"
    SERVER_TIMEOUT = "server_timeout"
    REGISTRATION_TIMEOUT = "registration_timeout"
    NODE_LOST = "node_lost"
    EVICTED = "evicted"
    UNHEALTHY = "unhealthy"
    # why an instance ends
    USER_REQUEST = "user_request"
    JOB_COMPLETED = "job_completed"
    IDLE = "idle"
    DEADLINE = "deadline"
    BUDGET = "budget"
    NO_OFFERS_LEFT = "no_offers_left"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    TOO_MANY_RECOVERIES = "too_many_recoveries"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    DOES_NOT_FIT = "does_not_fit"
    POISON_MESSAGE = "poison_message"


class EventType(OpenEnum):
    """Type of an event."""

    ACCEPTED = "accepted"
    PHASE = "phase"
    ATTEMPT_STARTED = "attempt_started"
    ATTEMPT_FAILED = "attempt_failed"
    ATTEMPT_GONE = "attempt_gone"
    NODE_NOTICE = "node_notice"
    HEALTH = "health"
    TERMINATION = "termination"
    ALERT = "alert"
