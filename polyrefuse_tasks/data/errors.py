"""The errors of reading prompts; each message is one sentence."""

from polyrefuse_shared.errors import UserError


class UnknownDataset(UserError):
    """No dataset has this name; the message names the existing ones, the nearest first."""


class UnknownSplit(UserError):
    """The dataset has no such split; the message names the splits that it has."""


class MissingData(UserError):
    """A file is neither here nor can it be fetched; the message says how to get it."""


class WrongHash(UserError):
    """A file differs from the published one; the message names both sha256 sums."""


class BrokenData(UserError):
    """A file does not have its format; the message names the file and, if possible, the line."""


class TranslationFailed(UserError):
    """A translation cannot be started or continued; the message says why and what to change."""
