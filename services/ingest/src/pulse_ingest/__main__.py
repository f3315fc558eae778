"""``python -m pulse_ingest``."""

import sys

from pulse_ingest.app import start
from pulse_runtime.lifecycle import run_process

if __name__ == "__main__":
    sys.exit(run_process(start, service="ingest"))
