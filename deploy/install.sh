#!/bin/sh
# Installs this checkout, with what serves, into an environment; runs in the checkout: deploy/install.sh PYTHON
# TORCH_INDEX: address of a package index with PyTorch's CPU wheels; empty takes torch as pip finds it.
set -eu
python=$1

pip_install() {
  "$python" -m pip --disable-pip-version-check --quiet --quiet install --constraint constraints.txt "$@"
}

has_gpu() {
  [ -e /dev/nvidia0 ] || nvidia-smi -L >/dev/null 2>&1
}

# Whether the torch that pip would take needs CUDA's libraries; nothing is installed
comes_with_cuda() {
  pip_install --dry-run --ignore-installed --no-deps --report - torch 2>/dev/null | "$python" -c '
import json, sys
from pip._vendor.packaging.requirements import Requirement
(torch,) = json.load(sys.stdin)["install"]
needs = map(Requirement, torch["metadata"].get("requires_dist", []))
needs = [each.name for each in needs if each.marker is None or each.marker.evaluate({"extra": ""})]
sys.exit(not any(name.startswith(("nvidia", "cuda")) for name in needs))' 2>/dev/null
}

if ! "$python" -c 'from importlib.metadata import version; version("torch")' 2>/dev/null; then
  if [ -z "${TORCH_INDEX:-}" ] && comes_with_cuda; then
    echo "installing, with CUDA's libraries: gigabytes to download and on the disk, many minutes"
    if ! has_gpu; then
      echo "This machine has no GPU for them. To do without, stop this, and run make with TORCH_INDEX=ADDRESS, the package"
      echo "index with PyTorch's CPU wheels: PyTorch's page 'Get started locally' shows it for Linux, Pip, CPU."
    fi
  else
    echo "installing: about 400 MB to download, 1 GB on the disk, one to five minutes"
  fi
  if [ -n "${TORCH_INDEX:-}" ]; then
    # The CPU index has only some releases of torch's own dependencies, so these come with the rest
    pip_install --no-compile --no-deps --index-url "$TORCH_INDEX" torch
  fi
fi
# Without the byte code of all that is there: Python writes that of a module when it is first used
pip_install --no-compile --editable '.[server]'
deploy/prune.sh "$python"
