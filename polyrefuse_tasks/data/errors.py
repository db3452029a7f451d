"""The mistakes that reading prompts can reveal, each said in one sentence."""

from polyrefuse_shared.errors import UserError


class UnknownDataset(UserError):
    """No data set of that name; the message names the ones there are, the nearest first."""


class UnknownSplit(UserError):
    """The data set has no such split; the message names those it has."""


class MissingData(UserError):
    """A file is in no place and may not or cannot be fetched; the message says how to get it."""


class WrongHash(UserError):
    """A file is not the published one; the message names both sha256 sums."""


class BrokenData(UserError):
    """A file cannot be read as what it should be; the message names it, and the line if it can."""


class TranslationFailed(UserError):
    """A translation cannot be started or continued; the message says why and what to change."""
