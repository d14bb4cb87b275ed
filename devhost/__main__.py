import sys

from devhost.main import main

sys.exit(main())
