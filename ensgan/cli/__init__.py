"""The command line."""

import time

STARTED = time.time()
"""When the command began, before any large import.

The start of the process would be wrong: a shell that did other things before (``pip install … &&
ensgan``) hands its process over to the last command.
"""

from ensgan.cli.app import app as app  # noqa: E402
from ensgan.cli.app import main as main  # noqa: E402
