"""How PostgreSQL, which refuses to run as root, is run by root."""

import os
import pwd
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from pulse_cli.embedded.errors import CannotDropPrivileges

_UNPRIVILEGED_USER = "nobody"
_CAP_SETGID, _CAP_SETUID, _CAP_SETPCAP = 6, 7, 8

# Either lets a process walk through folders that are closed to it (/root, a mktemp folder), so that nobody's folders
# have to be opened. The first also lets it read any file, the second write it too: prefer the first, but containers
# usually grant only the second.
_WALKING_CAPABILITIES = (("dac_read_search", 2), ("dac_override", 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Disguise:
    """Runs a program as an ordinary user who may walk through closed folders."""

    setpriv: str
    uid: int
    gid: int
    capability: str
    may_set_securebits: bool = True

    def argv(self, *program: str, death_signal: signal.Signals) -> list[str]:
        """The program's command line, in disguise.

        The death signal is repeated here because the kernel forgets it when the user changes.
        """
        return [
            self.setpriv,
            f"--reuid={self.uid}",
            f"--regid={self.gid}",
            "--clear-groups",
            # Without it access(2), by which initdb and postgres look at their own binaries, leaves capabilities aside.
            *(("--securebits=+no_setuid_fixup",) if self.may_set_securebits else ()),
            f"--inh-caps=-all,+{self.capability}",
            f"--ambient-caps=-all,+{self.capability}",
            "--no-new-privs",
            f"--pdeathsig={death_signal.name.removeprefix('SIG')}",
            "--",
            *program,
        ]

    def own(self, folder: Path) -> None:
        """Gives the folder, and only it, to the ordinary user."""
        os.chown(folder, self.uid, self.gid)


def disguise_for_root() -> Disguise | None:
    """None for an ordinary user, who needs none; raises CannotDropPrivileges if root is too weak to become one."""
    if os.geteuid() != 0:
        return None
    setpriv = shutil.which("setpriv", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
    if setpriv is None:
        raise CannotDropPrivileges("setpriv of util-linux is not installed")
    held = _capabilities()
    return Disguise(
        setpriv=setpriv,
        capability=walking_capability(held),
        may_set_securebits=bool(held >> _CAP_SETPCAP & 1),
        **_unprivileged(),
    )


def walking_capability(held: int) -> str:
    """The weakest sufficient capability in a capability mask."""
    if not (held >> _CAP_SETUID & 1 and held >> _CAP_SETGID & 1):
        raise CannotDropPrivileges("this container lacks the capabilities setuid and setgid")
    for name, bit in _WALKING_CAPABILITIES:
        if held >> bit & 1:
            return name
    raise CannotDropPrivileges("this container has neither the capability dac_override nor dac_read_search")


def _unprivileged() -> dict[str, int]:
    try:
        user = pwd.getpwnam(_UNPRIVILEGED_USER)
    except KeyError as exc:
        raise CannotDropPrivileges(f"there is no user {_UNPRIVILEGED_USER}") from exc
    return {"uid": user.pw_uid, "gid": user.pw_gid}


def _capabilities() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return int(value, 16)
    return 0
