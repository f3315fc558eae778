"""``python -m pulse_router``."""

import sys

from pulse_router.app import start
from pulse_runtime.lifecycle import run_process

if __name__ == "__main__":
    sys.exit(run_process(start, service="router"))
