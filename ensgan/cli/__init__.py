"""The command line."""

import time

STARTED = time.time()
"""When the command began, before it imported anything large.

The process itself may be older: a shell that did other things before (``pip install … && ensgan``)
gives its process to the last command.
"""

from ensgan.cli.app import app as app  # noqa: E402
from ensgan.cli.app import main as main  # noqa: E402
