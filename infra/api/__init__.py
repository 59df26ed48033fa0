"""The HTTP API and the page. `python -m infra.api` serves it."""
