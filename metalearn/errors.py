"""The errors of the learning core."""


class MetalearnError(Exception):
    """Root of this package's errors."""


class InvalidSupportSet(MetalearnError):
    """A support set that no learner can adapt on.

    Attributes:
        code: Stable, machine-readable reason.
        location: Path to the culprit inside the support set, such as ``("support", 3, "label")``.
    """

    def __init__(self, code: str, message: str, location: tuple[str | int, ...] = ("support",)) -> None:
        super().__init__(message)
        self.code = code
        self.location = location


class InvalidEpisode(MetalearnError):
    """An episode that no learner can be trained or judged on."""


class InvalidTasks(MetalearnError):
    """Task files that cannot be read, or none that episodes could be sampled from."""


class InvalidModel(MetalearnError):
    """Parts that do not fit together, such as modulations of layers that the encoder does not have."""


class UnsupportedObjective(MetalearnError):
    """A learner was asked for something that it does not do, such as regression by prototypes."""


class MetaTrainingFailed(MetalearnError):
    """Meta-training cannot go on."""


class AdaptationDiverged(MetalearnError):
    """An adaptation left the finite numbers.

    Attributes:
        location: Path to the culprit inside the request: the learning rate where one was given, else the support set.
    """

    def __init__(self, message: str, location: tuple[str | int, ...] = ("support",)) -> None:
        super().__init__(message)
        self.location = location


class EncoderUnavailable(MetalearnError):
    """The encoder's files are missing or cannot be used."""


class DeviceUnavailable(MetalearnError):
    """The requested device does not exist on this machine."""


class UnknownLearner(MetalearnError):
    """No learner is registered under that name."""


class UnknownUpdateRule(MetalearnError):
    """No update rule is registered under that name."""
