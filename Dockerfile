# The two commands in a container. DVC needs the repository, so build from a clone with its .git:
#   docker build -t avel .                                                                 on a CPU
#   docker build -t avel --build-arg BASE=nvidia/cuda:13.0.0-base-ubuntu24.04 .            with a GPU: add --gpus all to `docker run`
#   docker run --name demo --shm-size 2g -v avel-cache:/root/.cache avel                   make demo; docker cp demo:/avel/data/results/report .
#   docker run --rm --shm-size 2g avel make test
# Never built where this was written: no Docker daemon there. The base needs Python 3.11 or 3.12; torch brings its own CUDA libraries.
ARG BASE=ubuntu:24.04
FROM ${BASE}
ENV DEBIAN_FRONTEND=noninteractive NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates git make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /avel
# On its own, so that a change of code does not install everything again.
COPY requirements.lock ./
RUN python3 -m venv .venv && .venv/bin/python -m pip install --no-cache-dir -r requirements.lock
COPY . .
RUN make environment
CMD ["make", "demo"]
