# Two images of irsa-sidecar. They have no shell and no other file that irsa-sidecar does not need:
#
#     docker build -t irsa-sidecar .                          for Pods
#     docker build -t irsa-sidecar:tools --target tools .     with every command's packages
#
# This file does not depend on the architecture: `docker buildx build --platform linux/amd64,linux/arm64 .` builds both.
# BASE is any image with Python 3.11 or newer as `python3`, the venv module, and `ldd`. Only Python and its libraries
# are copied from BASE. The digest is that of the index of all architectures, and Renovate updates it.
ARG BASE=docker.io/library/python:3.13-slim-trixie@sha256:ffb752e139c0a19692a43af8d8523b274222dd68eebad5d583b45c2201c6e30a

# Steps that do not depend on the architecture run natively, without emulation. BUILD_BASE is the base
# image for that machine, if BASE is not an index of several architectures.
ARG BUILD_BASE=${BASE}

FROM --platform=$BUILDPLATFORM ${BUILD_BASE} AS native
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# Sets have the same order in every build.
ENV PYTHONHASHSEED=0

FROM native AS wheel
# For a mirror of PyPI: --build-arg PIP_INDEX_URL=https://…
ARG PIP_INDEX_URL=https://pypi.org/simple
COPY requirements/build.txt ./
RUN python3 -m venv tools && tools/bin/pip install --require-hashes -r build.txt
COPY pyproject.toml README.md LICENSE ./
COPY requirements/wheel.cdx.json requirements/
COPY man man
COPY sidecar sidecar
# The time of the files in the wheel. The default is that of hatchling.
ARG SOURCE_DATE_EPOCH=1580601600
RUN tools/bin/pip wheel --no-deps --no-build-isolation .

FROM --platform=$TARGETPLATFORM ${BASE} AS build
ARG PIP_INDEX_URL=https://pypi.org/simple
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python3 -m venv tools
COPY image/rootfs.py image/authorities.py ./
COPY --from=wheel /build/*.whl ./

FROM build AS run-rootfs
COPY requirements/run.txt ./
# botocore signs the requests of chains. Signing does not need botocore's models of services, which have 27 MB. Roles
# files are read without libyaml. `setup` and `audit` need packages that only the image for tools has,
# and so does the page of `local`.
RUN python3 rootfs.py tools/bin/pip run.txt *.whl /rootfs \
      botocore/data 'yaml/_yaml*.so' sidecar/audit sidecar/local/page sidecar/policy sidecar/setup

FROM build AS tools-rootfs
COPY requirements/tools.txt ./
RUN python3 rootfs.py tools/bin/pip tools.txt *.whl /rootfs && mkdir -m 1777 /rootfs/tmp

FROM native AS run-compiled
COPY image/bytecode.py ./
COPY --from=run-rootfs /rootfs /rootfs
RUN python3 bytecode.py /rootfs

FROM native AS tools-compiled
COPY image/bytecode.py ./
COPY --from=tools-rootfs /rootfs /rootfs
RUN python3 bytecode.py /rootfs

FROM scratch AS common
ARG BASE
# `make images` adds version, revision and time. `make release` writes all labels, with the digest of the base.
LABEL org.opencontainers.image.source="https://github.com/irsa-sidecar/irsa-sidecar" \
      org.opencontainers.image.url="https://github.com/irsa-sidecar/irsa-sidecar" \
      org.opencontainers.image.documentation="https://github.com/irsa-sidecar/irsa-sidecar/tree/main/docs" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.title="irsa-sidecar" \
      org.opencontainers.image.description="AWS credentials for Pods from their service account token" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/irsa-sidecar/bin
USER 65532:65532
ENTRYPOINT ["irsa-sidecar"]

FROM common AS tools
COPY --from=tools-compiled /rootfs /
CMD ["--help"]

FROM common AS run
COPY --from=run-compiled /rootfs /
EXPOSE 4773
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["irsa-sidecar", "probe"]
CMD ["run"]
