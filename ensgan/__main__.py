"""``python -m ensgan`` is the ``ensgan`` command."""

from ensgan.cli import main

if __name__ == "__main__":
    main()
