# API, mirror, and the workers of the pools `default` and `download`: everything but a GPU.
# From the root of a clone: docker build -f infra/deploy/service.Dockerfile -t yt-lyrics-service .
FROM python:3.12-slim-bookworm
COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /usr/local/bin/uv

WORKDIR /app
ENV UV_SYSTEM_PYTHON=1 UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 PYTHONUNBUFFERED=1 \
    YT_LYRICS_DATA=/data HF_HOME=/data/models/hf LISTEN=0.0.0.0

# What changes seldom first: the packages, as pinned by the lock.
COPY pyproject.toml requirements.lock ./
RUN uv pip install --constraint requirements.lock --requirement pyproject.toml --extra modal --extra runpod

COPY README.md LICENSE prefect.yaml prefect.docker.yaml ./
COPY flows flows
COPY tasks tasks
COPY infra infra
RUN uv pip install --no-deps .

VOLUME /data
EXPOSE 8000
CMD ["python", "-m", "infra.api"]
