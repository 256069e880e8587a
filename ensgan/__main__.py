"""The ``ensgan`` command, also as ``python -m ensgan``."""

import sys


def main() -> None:
    """Load the command line and run it; ctrl-C while it loads ends it as it does later."""
    try:
        from ensgan.cli import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
