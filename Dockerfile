# Two images of irsa-sidecar, without a shell or anything else that is not run:
#
#     docker build -t irsa-sidecar .                          what a Pod runs
#     docker build -t irsa-sidecar:tools --target tools .     with what the other commands need besides
#
# Nothing here depends on the architecture: `docker buildx build --platform linux/amd64,linux/arm64 .` makes both.
# BASE is any image with Python 3.11 or newer as `python3`, its venv module, and `ldd`. Only its Python and the
# libraries of that stay. For builds that can be repeated, pin it: --build-arg BASE=python@sha256:…
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
# A mirror of PyPI, where there is one: --build-arg PIP_INDEX_URL=https://…
ARG PIP_INDEX_URL=https://pypi.org/simple
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements/build.txt ./
RUN python3 -m venv tools && tools/bin/pip install --require-hashes -r build.txt
COPY pyproject.toml README.md LICENSE ./
COPY sidecar sidecar
RUN tools/bin/pip wheel --no-deps --no-build-isolation .
COPY image/rootfs.py image/authorities.py ./

FROM build AS run-rootfs
COPY requirements/run.txt ./
# Where a role has a chain, botocore signs. That needs none of what it knows of services, which is 27 MB.
RUN python3 rootfs.py tools/bin/pip run.txt *.whl /rootfs botocore/data

FROM build AS tools-rootfs
COPY requirements/tools.txt ./
RUN python3 rootfs.py tools/bin/pip tools.txt *.whl /rootfs && mkdir -m 1777 /rootfs/tmp

FROM scratch AS common
ARG BASE
# Version and revision are told by what builds it: `make image`.
LABEL org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.title="irsa-sidecar" \
      org.opencontainers.image.description="AWS credentials for Pods from their service account token" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/irsa-sidecar/bin
USER 65532:65532
ENTRYPOINT ["irsa-sidecar"]

FROM common AS tools
COPY --from=tools-rootfs /rootfs /
CMD ["--help"]

FROM common AS run
COPY --from=run-rootfs /rootfs /
EXPOSE 4773
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["irsa-sidecar", "probe"]
CMD ["run"]
