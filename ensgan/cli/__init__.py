"""The command line."""

from ensgan.cli.app import app as app
from ensgan.cli.app import main as main
