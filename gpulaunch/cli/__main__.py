"""`python -m cli`, which is the command `gpulaunch`."""

import os
import sys

from gpulaunch.cli.exits import Exit


def main() -> None:
    """Run the command; what is not expected ends in one line, and with GPULAUNCH_DEBUG=1 in a traceback."""
    from gpulaunch.cli.app import app

    try:
        app(prog_name="gpulaunch")
    except Exception as error:
        if os.environ.get("GPULAUNCH_DEBUG"):
            raise
        name = type(error).__name__
        print(f"error: {name}: {error}\nThis is a fault of gpulaunch; GPULAUNCH_DEBUG=1 shows where.", file=sys.stderr)
        sys.exit(Exit.ERROR)


if __name__ == "__main__":
    main()
