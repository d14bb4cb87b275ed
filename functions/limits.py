"""How long a function may take: less than the functionTimeout of host.json, which ends whatever runs in the worker."""

ANSWER_SECONDS = 50.0
"""For an HTTP answer: callers wait for a minute."""
STEP_SECONDS = 480.0
SWEEP_SECONDS = 480.0
"""Four times the limit of one of its tasks."""
BACKUP_SECONDS = 480.0
"""A table that takes longer to read gets no copy, which raises an alert."""
