"""How fast: through HTTP, beside the bare encoder in the fastest runtime and beside other projects, in one run."""
