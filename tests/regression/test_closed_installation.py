"""As root, PostgreSQL did not start from an installation below a folder that is closed to others (mktemp -d, /root).

Seen: ``invalid binary …/initdb: Permission denied``. access(2) sets capabilities aside when the user was changed.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pulse_cli.embedded.privileges import disguise_for_root


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user needs no disguise")
def test_a_program_in_disguise_may_look_at_binaries_below_a_closed_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    binary = closed / "binary"
    binary.write_text("")
    binary.chmod(0o755)
    disguise = disguise_for_root()
    assert disguise
    question = f"import os, sys; sys.exit(not os.access({str(binary)!r}, os.X_OK))"
    command = disguise.argv(sys.executable, "-c", question, death_signal=signal.SIGTERM)
    assert subprocess.run(command, check=False).returncode == 0
