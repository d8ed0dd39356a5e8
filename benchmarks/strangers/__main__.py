"""python -m benchmarks.strangers: see benchmarks.strangers.rounds."""

import sys

from benchmarks.strangers.rounds import main

sys.exit(main())
