"""`python -m gpulaunch.cli`: the command `gpulaunch`."""

import os
import sys

from gpulaunch.cli.exits import Exit


def main() -> None:
    """Run the command; an unexpected error is one line, or a traceback with GPULAUNCH_DEBUG=1."""
    from gpulaunch.cli.app import app

    try:
        app(prog_name="gpulaunch")
    except Exception as error:
        if os.environ.get("GPULAUNCH_DEBUG"):
            raise
        name = type(error).__name__
        print(
            f"error: {name}: {error}\nThis is a bug; set GPULAUNCH_DEBUG=1 for a traceback.",
            file=sys.stderr,
        )
        sys.exit(Exit.ERROR)


if __name__ == "__main__":
    main()
