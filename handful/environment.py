"""The environment variables by which command line and clients find a server. ``service.settings`` has its own."""

import os

URL = "HANDFUL_URL"
API_KEY = "HANDFUL_API_KEY"
VARIABLES = (URL, API_KEY)


def value_of(variable: str) -> str | None:
    """The value of a variable. Its name may be in any case, as with the server's settings."""
    return next((value for name, value in os.environ.items() if name.upper() == variable), None)
