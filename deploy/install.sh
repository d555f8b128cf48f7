#!/bin/sh
# Installs this checkout, with what serves, into an environment; runs in the checkout: deploy/install.sh PYTHON
# TORCH_INDEX: where torch comes from, as deploy/torch_index.sh has it.
set -eu
python=$1

pip_install() {
  "$python" -m pip --disable-pip-version-check --quiet --quiet install --constraint constraints.txt "$@"
}

if ! "$python" -c 'from importlib.metadata import version; version("torch")' 2>/dev/null; then
  index=$(deploy/torch_index.sh "$python")
  if [ -n "$index" ]; then
    # The CPU index has only some releases of torch's own dependencies, so these come with the rest
    pip_install --no-compile --no-deps --index-url "$index" torch
  fi
fi
# Without the byte code of all that is there: Python writes that of a module when it is first used
pip_install --no-compile --editable '.[server]'
deploy/prune.sh "$python"
