"""Webhooks: which events are sent, to whom, in which format, and how they are signed."""
