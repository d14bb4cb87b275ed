"""The pages for people: view models, templates and static files. Nothing here knows of Azure Functions."""
