"""``handful serve`` of a document: starts the server on a free port, waits until it answers, and stops it."""

import sys
from pathlib import Path

from benchmarks.server import running_server

if __name__ == "__main__":
    with running_server(Path.cwd(), *sys.argv[1:]) as server:
        print(server.url)
