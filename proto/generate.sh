#!/bin/sh
# Regenerate the Python code of the gRPC service: proto/generate.sh [OUTPUT_FOLDER]. Needs grpcio-tools (extra `dev`).
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
out="${1:-$here/../src/ashore/data/grpc/gen}"
python="${PYTHON:-$here/../.venv/bin/python}"
mkdir -p "$out"
"$python" -m grpc_tools.protoc -I"$here" --python_out="$out" --pyi_out="$out" \
  "$here"/ashore/v1/inference.proto
"$python" -m grpc_tools.protoc -I"$here" --python_out="$out" --pyi_out="$out" "$here"/ashore/v1/status.proto
# They come in the folder of the proto file; ours lie beside each other.
mv "$out"/ashore/v1/* "$out"/
rmdir "$out"/ashore/v1 "$out"/ashore
