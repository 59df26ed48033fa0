"""Children that stay warm: what `infra/worker.py`, the Prefect worker, is made of."""
