"""`python -m aiqvit COMMAND ...`."""

import sys

from aiqvit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
