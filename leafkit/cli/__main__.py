"""``python -m leafkit.cli``, for launchers such as torchrun."""

import sys

from leafkit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
