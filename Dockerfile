# Image of Paraf: `docker build -t paraf .`, or podman or buildah with --format docker (for HEALTHCHECK).
# Nothing in it is bound to an architecture; the locked wheels exist for amd64 and arm64.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
WORKDIR /build
COPY deploy/build.lock deploy/requirements.lock ./
RUN python3 -m venv tools \
    && tools/bin/pip install --quiet --no-cache-dir --require-hashes --only-binary :all: -r build.lock \
    && python3 -m venv --without-pip /opt/paraf \
    && tools/bin/pip --python /opt/paraf/bin/python install --quiet --no-cache-dir --require-hashes \
        --only-binary :all: -r requirements.lock
COPY . source
# The list of parts is made of what was installed, not of what was asked for.
ARG SOURCE_DATE_EPOCH=315532800
RUN tools/bin/pip wheel --quiet --no-cache-dir --no-deps --no-build-isolation --no-index --wheel-dir . ./source \
    && tools/bin/pip --python /opt/paraf/bin/python install --quiet --no-cache-dir --no-deps --no-index ./paraf-*.whl \
    && tools/bin/cyclonedx-py environment --pyproject source/pyproject.toml --mc-type application \
        --output-reproducible --output-format JSON --output-file /opt/paraf/sbom.cdx.json /opt/paraf/bin/python \
    && /opt/paraf/bin/paraf demo --once > accepted \
    && mkdir -m 700 state

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="paraf" \
      org.opencontainers.image.description="Outbound signing reverse proxy for Indonesian payment providers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/paraf /opt/paraf
# For `store: file:///var/lib/paraf` on a volume, which takes over whose it is.
COPY --from=build --chown=65532:65532 /build/state /var/lib/paraf
ENV PATH=/opt/paraf/bin:$PATH PARAF_CONFIG=/etc/paraf/paraf.yaml PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# A number, so that runAsNonRoot can be checked. No file is written: a read-only root will do.
USER 65532:65532
WORKDIR /
EXPOSE 8080 9464
# Asks the `admin` of the configuration. Kubernetes looks at none of this: it has probes.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["paraf", "wait", "--timeout", "0s"]
ENTRYPOINT ["paraf"]
CMD ["serve"]
