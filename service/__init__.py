"""The REST service, its command line and its client."""
