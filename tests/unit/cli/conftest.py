import pytest

from pulse_cli import running


@pytest.fixture(autouse=True)
def _keep_the_logs_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command configures the logs of its process, and here it runs within that of the tests."""
    monkeypatch.setattr(running, "configure_logs", lambda: None)
