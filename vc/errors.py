"""The errors a user can cause. The command line prints their one line and exits with status 2."""


class VCError(ValueError):
    """Base of every error whose message is meant for the user: what, which file, what to do.

    In one line, whatever the names in it hold.
    """

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())


class AudioError(VCError):
    """A clip cannot be read, is not usable speech, or cannot be written."""


class ConfigError(VCError):
    """A configuration has an unknown key, a wrong type or a value out of range."""


class CheckpointError(VCError):
    """A checkpoint folder is missing, damaged, foreign or of another format version."""


class VoiceError(VCError):
    """A voice file is missing, damaged or of another model, or voices cannot be blended."""


class DataError(VCError):
    """A corpus, manifest or feature cache cannot be used."""


class WorkerError(VCError):
    """A worker process died: killed, by the user or for want of memory."""

    def __init__(self) -> None:
        super().__init__(
            "a worker died, perhaps for want of memory; use fewer --workers, and run it again "
            "to go on"
        )


class UnitsError(VCError):
    """Speech as units, or compressed to them, is damaged, foreign or has a wrong line."""
