#!/bin/sh
# Prints the package index to take torch from, or nothing where pip's own do: deploy/torch_index.sh PYTHON
# Runs beside constraints.txt; says on the standard error what will be downloaded.
# TORCH_INDEX: an address is taken as it is, "pip" stands for pip's own indexes. Empty: where these have a torch with
#   CUDA's libraries and the machine has no NVIDIA GPU, PyTorch's index of CPU wheels if it answers.
# TORCH_CPU_INDEX: address of that index.
set -eu
python=$1
cpu_index=${TORCH_CPU_INDEX:-https://download.pytorch.org/whl/cpu}

say() {
  printf '%s\n' "$@" >&2
}

has_gpu() {
  [ -e /dev/nvidia0 ] || nvidia-smi -L >/dev/null 2>&1
}

# Whether the torch that pip would take needs CUDA's libraries; nothing is installed
comes_with_cuda() {
  "$python" -m pip --disable-pip-version-check --quiet --quiet install --constraint constraints.txt \
    --dry-run --ignore-installed --no-deps --report - torch 2>/dev/null | "$python" -c '
import json, sys
from pip._vendor.packaging.requirements import Requirement
(torch,) = json.load(sys.stdin)["install"]
needs = map(Requirement, torch["metadata"].get("requires_dist", []))
needs = [each.name for each in needs if each.marker is None or each.marker.evaluate({"extra": ""})]
sys.exit(not any(name.startswith(("nvidia", "cuda")) for name in needs))' 2>/dev/null
}

# Whether the index answers within seconds; the alarm also ends a name server's silence
answers() {
  "$python" -c '
import signal, sys, urllib.request
signal.alarm(8)
urllib.request.urlopen(sys.argv[1].rstrip("/") + "/torch/", timeout=4).close()' "$1" >/dev/null 2>&1
}

small="installing: about 400 MB to download, 1 GB on the disk, one to five minutes"
large="installing, with CUDA's libraries: gigabytes to download and on the disk, many minutes"
case ${TORCH_INDEX:-} in
  "" | pip) ;;
  *)
    say "$small"
    echo "$TORCH_INDEX"
    exit
    ;;
esac
if ! comes_with_cuda; then
  say "$small"
elif [ "${TORCH_INDEX:-}" = pip ] || has_gpu; then
  say "$large"
elif answers "$cpu_index"; then
  say "$small" "without CUDA, since this machine has no GPU: torch comes from $cpu_index (TORCH_INDEX=pip: with CUDA)"
  echo "$cpu_index"
else
  say "$large" \
    "This machine has no GPU for them, and PyTorch's index of CPU wheels, $cpu_index, does not answer." \
    "To do without CUDA, stop this, and run it with TORCH_INDEX=ADDRESS, an index that has these wheels."
fi
