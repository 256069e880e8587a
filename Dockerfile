# ensgan in one image, on the CPU or on NVIDIA GPUs:
#   docker build -t ensgan .
#   docker build -t ensgan:gpu --build-arg EXTRA=gpu .
#   docker run --rm -v "$PWD/runs:/runs" ensgan sweep quickstart
# torch's ordinary wheels carry CUDA (6 GB in all); the host needs only its driver and the NVIDIA
# container toolkit. For CPUs alone, --build-arg TORCH_INDEX= the index that pytorch.org names for
# CPU wheels makes the image 2 GB.
FROM python:3.11-slim
ARG EXTRA=cpu
ARG TORCH_INDEX=
WORKDIR /opt/ensgan
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY ensgan ensgan
COPY sweeps sweeps
# torch first and by its exact version: a looser request fetches a newer one.
RUN pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
        "$(grep '^torch==' constraints.txt)" \
    && pip install --no-cache-dir -c constraints.txt ".[$EXTRA]"
# No root inside; runs and data live in mounted folders.
RUN useradd --create-home ensgan && mkdir /runs /data && chown ensgan /runs /data
USER ensgan
ENV ENSGAN_STORAGE=/runs ENSGAN_DATA=/data
VOLUME ["/runs", "/data"]
WORKDIR /home/ensgan
ENTRYPOINT ["ensgan"]
CMD ["--help"]
