# The workers of the pool `cuda`; with another command the far side on RunPod.
# From the root of a clone: docker build -f infra/deploy/gpu.Dockerfile -t yt-lyrics-gpu .
FROM nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04
COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /usr/local/bin/uv

WORKDIR /app
ENV UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 UV_PYTHON_INSTALL_DIR=/opt/python PYTHONUNBUFFERED=1 \
    VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH YT_LYRICS_DATA=/data HF_HOME=/data/models/hf
RUN uv venv --python 3.12 /opt/venv

# What changes seldom first: the packages, as pinned by the lock.
COPY pyproject.toml requirements.lock ./
RUN uv pip install --constraint requirements.lock --requirement pyproject.toml --extra gpu --extra runpod

COPY README.md LICENSE prefect.yaml prefect.docker.yaml ./
COPY flows flows
COPY tasks tasks
COPY infra infra
RUN uv pip install --no-deps .

VOLUME /data
CMD ["prefect", "worker", "start", "--type", "warm", "--pool", "cuda", "--limit", "1"]
