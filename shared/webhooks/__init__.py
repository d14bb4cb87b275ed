"""Alerts: which events are told to whom, in which form, signed how."""
