"""Run the engine: `python -m clawd_runtime.engine --config FILE`."""

import sys

from clawd_runtime.engine.main import main

sys.exit(main(sys.argv[1:]))
