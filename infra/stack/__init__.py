"""The embedded stack: PostgreSQL, the Prefect server on it, workers, mirror, API and page under one command."""
