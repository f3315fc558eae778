"""``python -m pulse_delivery``."""

import sys

from pulse_delivery.app import start
from pulse_runtime.lifecycle import run_process

if __name__ == "__main__":
    sys.exit(run_process(start, service="delivery"))
