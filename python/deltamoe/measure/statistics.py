"""What samples of a speed allow one to say: medians with intervals, ratios, verdicts, noise, drift."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from scipy import stats

__all__ = ["Drift", "Kind", "Summary", "Verdict", "drift", "noisy", "summarize", "verdict"]

CONFIDENCE = 0.95  # of intervals
ALPHA = 0.01  # a difference less likely than this by chance is evidence
THRESHOLD = 0.03  # a relative change smaller than this is of no interest
NOISY = 0.05  # a median not known within this share of itself is noisy
MIN_SAMPLES = 3  # fewer say nothing about their scatter
RESAMPLES = 2000
SEED = 0  # the same samples give the same interval


Samples = Sequence[float] | np.ndarray[Any, np.dtype[np.float64]]


class Kind(StrEnum):
    """What a comparison found."""

    FASTER = "faster"
    SLOWER = "slower"
    NO_EVIDENCE = "no evidence"


@dataclass(frozen=True)
class Summary:
    """Samples in short.

    Attributes:
        median: in the samples' unit.
        low, high: 95% interval of the median by bootstrap; both the median itself where there is one sample.
        cv: coefficient of variation: standard deviation over mean; NaN where there is one sample.
        n: how many samples.
    """

    median: float
    low: float
    high: float
    cv: float
    n: int


@dataclass(frozen=True)
class Verdict:
    """How the speed of head stands to that of base.

    Attributes:
        ratio: head's speed over base's: below 1 head is slower, whatever the samples' unit.
        low, high: 95% interval of the ratio by bootstrap.
        p: how likely chance alone makes so large a difference: Mann-Whitney, or Wilcoxon's signed ranks of pairs.
        threshold: the relative change that is of interest.
    """

    ratio: float
    low: float
    high: float
    p: float
    threshold: float = THRESHOLD

    @property
    def kind(self) -> Kind:
        """Faster or slower where the interval excludes 1 and the test agrees, else no evidence."""
        if not self.p < ALPHA:
            return Kind.NO_EVIDENCE
        if self.high < 1:
            return Kind.SLOWER
        return Kind.FASTER if self.low > 1 else Kind.NO_EVIDENCE

    @property
    def is_loss(self) -> bool:
        """Whether a slowdown is confirmed and larger than the threshold."""
        return self.kind is Kind.SLOWER and self.ratio < 1 - self.threshold


@dataclass(frozen=True)
class Drift:
    """A trend within the samples of one arm.

    Attributes:
        change: the median of the last half over that of the first, less 1.
        p: of Kendall's test for a trend.
    """

    change: float
    p: float

    @property
    def found(self) -> bool:
        """Whether there is evidence of a trend, and it is larger than :data:`THRESHOLD`."""
        return self.p < ALPHA and abs(self.change) > THRESHOLD


def summarize(samples: Samples) -> Summary:
    """The samples in short.

    Raises:
        ValueError: no sample.
    """
    values = _values(samples)
    middle = float(np.median(values))
    low, high = _interval((values,), np.median)
    cv = float(np.std(values, ddof=1) / np.mean(values)) if len(values) > 1 else math.nan
    return Summary(middle, low, high, cv, len(values))


def noisy(samples: Samples) -> bool:
    """Whether the samples scatter too much to tell a winner: their median is not known within 5%.

    True as well for fewer than three samples, which say nothing about their scatter.

    Raises:
        ValueError: no sample.
    """
    if len(samples) < MIN_SAMPLES:
        return True
    short = summarize(samples)
    return max(short.high - short.median, short.median - short.low) > NOISY * short.median


def verdict(
    base: Samples,
    head: Samples,
    threshold: float = THRESHOLD,
    *,
    higher_is_better: bool = True,
    paired: bool = False,
) -> Verdict:
    """Whether head is faster or slower than base.

    Args:
        base, head: samples, positive.
        threshold: the relative change that is of interest, such as 0.03.
        higher_is_better: True for rates, False for times.
        paired: the samples were taken in turns, and those of the same index belong together: what slows both down
            cancels. The ratio is then the median of the pairs' ratios, else the ratio of the medians.

    Raises:
        ValueError: no sample, one that is not positive and finite, or pairs of different number.
    """
    before, after = _values(base), _values(head)
    if not higher_is_better:
        before, after = 1 / before, 1 / after
    if not paired:
        low, high = _interval((after, before), _ratio_of_medians)
        p = stats.mannwhitneyu(after, before).pvalue
        return Verdict(float(_ratio_of_medians(after, before)), low, high, float(p), threshold)
    if len(before) != len(after):
        raise ValueError(f"{len(before)} samples of base and {len(after)} of head are no pairs")
    ratios = after / before
    low, high = _interval((ratios,), np.median)
    p = stats.wilcoxon(np.log(ratios)).pvalue if np.any(ratios != 1) else 1.0
    return Verdict(float(np.median(ratios)), low, high, float(p), threshold)


def drift(samples: Samples) -> Drift:
    """Whether the samples of one arm, in the order in which they were taken, rise or fall: a machine that throttles.

    Raises:
        ValueError: no sample, or one that is not positive and finite.
    """
    values = _values(samples)
    half = len(values) // 2
    if half == 0:
        return Drift(0.0, 1.0)
    change = np.median(values[-half:]) / np.median(values[:half]) - 1
    p = stats.kendalltau(np.arange(len(values)), values).pvalue
    return Drift(float(change), 1.0 if math.isnan(p) else float(p))


def _values(samples: Samples) -> np.ndarray[Any, np.dtype[np.float64]]:
    values = np.asarray(samples, np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError("there is no sample")
    if not (np.all(np.isfinite(values)) and np.all(values > 0)):
        raise ValueError("a sample is not positive and finite")
    return values


def _ratio_of_medians(head: Any, base: Any, axis: int = -1) -> Any:
    return np.median(head, axis=axis) / np.median(base, axis=axis)


def _interval(data: tuple[Any, ...], statistic: Callable[..., Any]) -> tuple[float, float]:
    """95%, percentile bootstrap; where every list has one sample, the value itself."""
    if all(len(values) == 1 for values in data):
        value = float(statistic(*data))
        return value, value
    # scipy's bootstrap wants two samples of each: one, taken twice, resamples to itself
    data = tuple(np.repeat(values, 2) if len(values) == 1 else values for values in data)
    found = stats.bootstrap(
        data, statistic, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", rng=SEED, batch=100
    ).confidence_interval
    return float(found.low), float(found.high)
