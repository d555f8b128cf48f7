"""Intervals of figures: they hold the true value in a stated share of all samples."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

LEVEL = 0.95

Interval = tuple[float, float]
"""Lower and upper end."""


class Estimate(NamedTuple):
    """A mean and how far it may be off.

    Attributes:
        value: The mean.
        standard_error: Standard deviation of the mean.
        degrees_of_freedom: Degrees of freedom of the standard error; None where it is not estimated from a sample.
    """

    value: float
    standard_error: float
    degrees_of_freedom: int | None

    def interval(self, level: float = LEVEL) -> Interval:
        """The interval by Student's t, or by the normal distribution where there are no degrees of freedom."""
        upper = (1 + level) / 2
        df = self.degrees_of_freedom
        reach = self.standard_error * (NormalDist().inv_cdf(upper) if df is None else student_t_quantile(upper, df))
        return self.value - reach, self.value + reach


class Difference(NamedTuple):
    """How much better one thing is than another on the same episodes.

    Attributes:
        mean: Mean of the differences.
        interval: Interval of that mean; None for a single pair.
        n_pairs: How many there are.
    """

    mean: float
    interval: Interval | None
    n_pairs: int


def estimate_mean(values: Sequence[float]) -> Estimate | None:
    """The mean of a sample with its standard error; None for fewer than two values, which show no spread."""
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return Estimate(mean, math.sqrt(variance / n), n - 1)


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Student's t interval of the mean of a sample; None for fewer than two values.

    Source: Student 1908, "The probable error of a mean".
    """
    estimate = estimate_mean(values)
    return estimate.interval(level) if estimate else None


def wilson_interval(share: float, n: int | float, level: float = LEVEL) -> Interval:
    """Interval of a probability of which a share of successes in ``n`` trials is known.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Args:
        share: Successes over trials, from 0 to 1.
        n: Number of trials, at least one.
        level: Share of samples whose interval holds the true value.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, min(share, centre - reach)), min(1.0, max(share, centre + reach))


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates of different things, such as accuracies of different tasks.

    Its standard error is that of its parts: the things are taken as they are, not as a sample of all such things.
    Degrees of freedom by Welch and Satterthwaite, rounded down.

    Source: Satterthwaite 1946, "An approximate distribution of estimates of variance components", eq. 17.

    Args:
        estimates: One or more.
    """
    variances = [estimate.standard_error**2 for estimate in estimates]
    total = math.fsum(variances)
    doubt = math.fsum(
        variance**2 / estimate.degrees_of_freedom
        for variance, estimate in zip(variances, estimates, strict=True)
        if estimate.degrees_of_freedom is not None
    )
    value = math.fsum(estimate.value for estimate in estimates) / len(estimates)
    # Floating point may put a whole number just under itself
    degrees = max(1, math.floor(total**2 / doubt + 1e-9)) if doubt > 0 else None
    return Estimate(value, math.sqrt(total) / len(estimates), degrees)


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """How much greater the values of ``a`` are than those of ``b``, pair by pair: whether a beats b.

    ``a`` beats ``b`` beyond chance where the interval's lower end is above 0. The episodes' own difficulty, which both
    share, drops out; so the interval is narrower than those of either mean.

    Args:
        a: One value per episode.
        b: One per episode, of the same episodes in the same order.

    Raises:
        ValueError: There are no pairs, or their numbers differ.
    """
    if not a or len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values do not make pairs")
    differences = [x - y for x, y in zip(a, b, strict=True)]
    return Difference(math.fsum(differences) / len(differences), mean_interval(differences), len(differences))


def student_t_quantile(probability: float, degrees_of_freedom: int) -> float:
    """The value under which Student's t lies with that probability.

    Args:
        probability: Over 0.5 and under 1.
        degrees_of_freedom: At least 1.
    """
    low, high = 0.0, 1.0
    while _student_t_cdf(high, degrees_of_freedom) < probability:
        high *= 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _student_t_cdf(middle, degrees_of_freedom) < probability else (low, middle)
    return high


def _student_t_cdf(t: float, degrees_of_freedom: int) -> float:
    """The distribution function at t >= 0, by the finite series for whole degrees of freedom.

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
    """
    theta = math.atan(t / math.sqrt(degrees_of_freedom))
    cosine, sine = math.cos(theta), math.sin(theta)
    odd = degrees_of_freedom % 2 == 1
    term = cosine if odd else 1.0
    total = 0.0
    for k in range(2 if odd else 1, degrees_of_freedom, 2):
        total += term
        term *= cosine * cosine * k / (k + 1)
    between = 2 / math.pi * (theta + sine * total) if odd else sine * total
    return 0.5 + between / 2
