"""Local development host: runs a `function_app.py` by the rules of the Azure Functions host.

It reads the same host.json and local.settings.json, refuses what the real host refuses, and speaks to any Azure Storage
account. Only HTTP, Storage Queue and timer triggers are known; an output binding is refused rather than half-supported.
"""
