# CPU:  docker build -t lora_repro .                 docker run --rm -it -v "$PWD/runs:/work/runs" lora_repro make reproduce-e2e
# CUDA: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 -t lora_repro .       docker run --gpus all ...
FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN apt-get update && apt-get install -y --no-install-recommends make git && rm -rf /var/lib/apt/lists/*
WORKDIR /work
# torch first and from its own index: its build is the machine's. Everything else is installed by its hash.
RUN python -m venv .venv && .venv/bin/pip install --no-cache-dir 'torch>=2.7,<2.14' --index-url "$TORCH_INDEX"
# With .git, so that a run's record can name its commit: without one, no run can be published. Its config, which may hold a
# password, stays out (.dockerignore).
COPY . .
RUN make setup
CMD ["make", "help"]
