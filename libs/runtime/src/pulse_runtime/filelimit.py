"""The limit of open files, which is also the limit of connections."""

import resource
from typing import Final

from pulse_runtime.refusal import StartRefused

_UNLIMITED_CEILING: Final = 1_048_576
"""Asked for where the hard limit is infinite: Linux refuses an infinite soft limit (`fs.nr_open`)."""


class FileLimitTooLow(StartRefused):
    """The hard limit of the process allows fewer open files than the service needs."""

    def __init__(self, *, limit: int, minimum: int, instead: str = "") -> None:
        self.limit = limit
        self.minimum = minimum
        super().__init__(
            f"the process may open {limit} files but needs {minimum}; "
            f"raise the hard limit, for example with `ulimit -Hn {minimum}` or LimitNOFILE={minimum}"
            f"{f', or {instead}' if instead else ''}"
        )


def raise_file_limit(minimum: int, *, instead: str = "") -> int:
    """Raise the soft limit of open files to the hard one and return it.

    The common default of 1,024 is used up by a delivery process with a few hundred busy destinations. Raises
    `FileLimitTooLow` if even the hard limit is under `minimum`; the soft limit is raised all the same. `instead` says
    what else an operator may do about it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = max(minimum, _UNLIMITED_CEILING) if hard == resource.RLIM_INFINITY else hard
    if soft not in (target, resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and limit < minimum:
        raise FileLimitTooLow(limit=limit, minimum=minimum, instead=instead)
    return limit
