"""The two ways in which storing can fail, for everyone who writes and everyone who retries."""


class StorageUnavailable(Exception):
    """The database could not try: the same work may succeed later."""


class DataRefused(Exception):
    """The database refused the data itself: trying again changes nothing."""
