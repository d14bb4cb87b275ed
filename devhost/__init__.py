"""Local development host: runs this project's `function_app.py` by the rules of the Azure Functions host.

It reads host.json and local.settings.json, and knows what the app binds: HTTP routes with plain `{parameters}`, Storage
Queue triggers and timers, all with synchronous functions. Anything else is refused, never half-supported.
"""
