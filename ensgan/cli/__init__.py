"""The command line."""

from ensgan.cli.app import app, main

__all__ = ["app", "main"]
