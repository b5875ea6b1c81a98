# Fieldmark with all that it needs, on a CPU or an NVIDIA GPU:
#   docker build -t fieldmark .
#   docker build -t fieldmark --build-arg DEVICE=gpu .                                    Pascal to Ampere: TensorFlow 2.15.1
#   docker build -t fieldmark --build-arg DEVICE=gpu --build-arg PYTHON=3.12 --build-arg LANE=modern .    up to Hopper: 2.21.0
#   docker run --gpus all -v ~/inat2021:/data -v ~/runs:/fieldmark/runs fieldmark bash run_inference.sh inat2021 /data
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm

ARG LANE=pinned
ARG DEVICE=cpu
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /fieldmark

# Before the code, so that a change of the code installs nothing anew.
COPY requirements.txt requirements-modern.txt constraints.txt constraints-modern.txt ./
RUN suffix=; if [[ "$LANE" == modern ]]; then suffix=-modern; fi; \
    extra=; if [[ "$DEVICE" == gpu ]]; then extra='[and-cuda]'; fi; \
    sed "s/^tensorflow==/tensorflow$extra==/" "requirements$suffix.txt" > chosen.txt; \
    pip install --no-cache-dir --requirement chosen.txt --constraint "constraints$suffix.txt"

COPY . .
# The scripts take this interpreter as it is, instead of making a .venv.
ENV PYTHON=python
CMD ["bash", "run_inference.sh"]
