"""The settings of the router: those that every service has."""

from pulse_runtime.settings import ServiceSettings


class RouterSettings(ServiceSettings):
    """What the router is told."""
