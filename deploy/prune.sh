#!/bin/sh
# Removes what serving has no use for from an environment: deploy/prune.sh PYTHON
# These are a fifth of torch: headers, for compiling extensions, and programs that test torch itself.
set -eu
site=$("$1" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
rm -rf "$site/torch/include" "$site/torch/test" "$site/onnx/backend/test"
if [ -d "$site/torch/bin" ]; then
  find "$site/torch/bin" -mindepth 1 ! -name torch_shm_manager -delete
fi
