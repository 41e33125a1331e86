# Two images, for `docker build --target NAME .`, podman or buildah:
#   operator  the Kubernetes operator
#   trainer   PyTorch and stage_runner: what the image of a study builds on (examples/digits/Dockerfile)
#
# BASE_IMAGE needs Python 3.11 or newer and pip, TRAINER_BASE_IMAGE PyTorch and NumPy as well; what
# they bring is kept. Where pip needs settings: --secret id=pip.conf,src=FILE (and id=ca.crt, for
# `cert = /run/secrets/ca.crt`). They are not in the image.
#
# Everything has a digest: the bases here, packages in constraints.txt. pip goes first: before 26 it
# would not look there for hashes.
ARG BASE_IMAGE=python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
ARG TRAINER_BASE_IMAGE=pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime@sha256:7b324d212a4450795b49edba9949b7cdc72429148a64e974334bfe5774d51385


FROM ${BASE_IMAGE} AS wheel
ENV PIP_CONFIG_FILE=/run/secrets/pip.conf PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv --system-site-packages --without-pip /opt/build
ENV PATH=/opt/build/bin:$PATH
WORKDIR /src
COPY pyproject.toml constraints.txt requirements.py ./
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt \
    python requirements.py --pinned pip > pip.txt \
    && python -m pip install --require-hashes -r pip.txt \
    && python requirements.py build > build.txt \
    && python -m pip install --require-hashes -c constraints.txt -r build.txt
COPY README.md LICENSE ./
COPY operator operator
COPY stage_runner stage_runner
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /dist .


FROM ${BASE_IMAGE} AS operator
ENV PIP_CONFIG_FILE=/run/secrets/pip.conf PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv --system-site-packages --without-pip /opt/hippo
ENV PATH=/opt/hippo/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp
# The libraries come before the sources, which change more often.
COPY pyproject.toml constraints.txt requirements.py /opt/hippo/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt \
    cd /opt/hippo && python requirements.py --pinned pip > pip.txt \
    && python -m pip install --require-hashes -r pip.txt \
    && python requirements.py project operator > requirements.txt \
    && python -m pip install --require-hashes -c constraints.txt -r requirements.txt
COPY --from=wheel /dist/ /opt/hippo/dist/
RUN python -m pip install --no-index --no-deps /opt/hippo/dist/*.whl
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["hippo", "operator"]


FROM ${TRAINER_BASE_IMAGE} AS trainer
ENV PIP_CONFIG_FILE=/run/secrets/pip.conf PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# A virtual environment on top of what the base has: PyTorch stays, and nothing of the base is replaced.
RUN python3 -m venv --system-site-packages --without-pip /opt/hippo
ENV PATH=/opt/hippo/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp PYTHONPATH=/workspace
COPY pyproject.toml constraints.txt requirements.py /opt/hippo/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt \
    cd /opt/hippo && python requirements.py --pinned pip > pip.txt \
    && python -m pip install --require-hashes -r pip.txt \
    && python requirements.py project > requirements.txt \
    && python -m pip install --require-hashes -c constraints.txt -r requirements.txt
COPY --from=wheel /dist/ /opt/hippo/dist/
RUN python -m pip install --no-index --no-deps /opt/hippo/dist/*.whl
USER 65532:65532
WORKDIR /workspace
