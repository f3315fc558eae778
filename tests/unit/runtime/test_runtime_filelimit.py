import resource
from collections.abc import Generator

import pytest

from pulse_runtime.filelimit import FileLimitTooLow, raise_file_limit


@pytest.fixture(autouse=True)
def limit_restored() -> Generator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_rises_to_the_hard_one() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    assert raise_file_limit(256) == resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256


def test_a_hard_limit_under_the_minimum_refuses_the_start() -> None:
    with pytest.raises(FileLimitTooLow, match="files but needs 2147483648") as caught:
        raise_file_limit(2**31)
    assert caught.value.minimum == 2**31
