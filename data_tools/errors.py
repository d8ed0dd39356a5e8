"""What a user can mend, as exceptions whose message is one sentence. Any other is a bug of ours."""


class UserError(Exception):
    """Data that cannot be used as they are. Exit status 1."""


class UsageError(UserError, ValueError):
    """An option, argument or setting that makes no sense. Exit status 2."""


class MissingPackage(UserError, RuntimeError):
    """A package of an optional extra is not installed; the message names the extra."""
