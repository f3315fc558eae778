"""Why a service declines to start."""


class StartRefused(Exception):
    """The host or its settings forbid starting.

    The text is written for the operator and is all that is logged: a traceback would only hide it.
    """
