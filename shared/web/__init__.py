"""The web UI: view models, templates and static files. Independent of Azure Functions."""
