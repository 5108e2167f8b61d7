# The image holds Python, the locked packages and the forwarder; it runs as nobody in particular, and needs a
# configuration at /etc/forwarder/forwarder.yaml and a volume at /var/lib/forwarder (owned by 10001:0).
# It also runs as any other user of group 0, as OpenShift's restricted policy demands, before or after its own
# user on the same volume. So its user is in group 0, and what any user makes in the directory is of that group:
#
#   docker build -t event-forwarder .
#   docker run -v ./config/sidecar.yaml:/etc/forwarder/forwarder.yaml:ro -v forwarder:/var/lib/forwarder \
#     --stop-timeout 40 --network host event-forwarder
#
# Inside a network of its own the listeners must not be on 127.0.0.1: set ingest.listen and admin.listen to
# ":2780" and ":2781", which are all addresses of both families.

# The digest decides, the tag only says what it is. To move it: docker buildx imagetools inspect python:TAG.
# The digest is the one that several public projects pin for this tag; it was not pulled where this was tested.
ARG PYTHON=3.13-slim-bookworm@sha256:01f42367a0a94ad4bc17111776fd66e3500c1d87c15bbd6055b7371d39c124fb

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /build && python -m venv --without-pip /opt/forwarder
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
# Wheels only: nothing is compiled, and nothing runs that no hash vouches for.
RUN /build/bin/pip install --require-hashes --only-binary :all: -r requirements-build.lock \
 && /build/bin/pip --python /opt/forwarder install --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY forwarder forwarder
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
 && /build/bin/pip --python /opt/forwarder install --no-deps --no-index /dist/*.whl

FROM python:${PYTHON}
RUN groupadd --gid 10001 forwarder \
 && useradd --no-log-init --uid 10001 --gid forwarder --no-create-home --home-dir /nonexistent forwarder \
 && install -d -o forwarder -g 0 -m 2770 /var/lib/forwarder
COPY --from=build /opt/forwarder /opt/forwarder
ENV PATH=/opt/forwarder/bin:$PATH PYTHONUNBUFFERED=1 STATE_DIRECTORY=/var/lib/forwarder
USER 10001:0
WORKDIR /var/lib/forwarder
VOLUME /var/lib/forwarder
EXPOSE 2780 2781
# Alive means that the loop turns; a dead AWS is no reason to restart (see /status for that).
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s CMD ["forwarder", "health"]
ENTRYPOINT ["forwarder"]
CMD ["run", "-c", "/etc/forwarder/forwarder.yaml"]
