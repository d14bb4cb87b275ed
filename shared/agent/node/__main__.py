"""Where Python starts: the shipped file has this module at its root."""

import sys

from shared.agent.node.main import main

if __name__ == "__main__":
    sys.exit(main())
