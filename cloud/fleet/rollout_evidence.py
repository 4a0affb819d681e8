"""How sure a count makes us that a share is above its limit: a test that may be looked at after each report.

A plain binomial test at 95 % that is repeated at each report halts a good release far more often than one
time in twenty. This one holds its promise however often it is looked at, and at any number of reports: it is
a bet against "the share is at most p", fair at p and losing below it. Its winnings pass 1/a with a
probability of at most a (Ville 1939; Robbins, "Statistical methods related to the law of the iterated
logarithm", 1970).
"""

from __future__ import annotations

import math


def evidence_against(hits: int, of: int, limit: float) -> float:
    """The evidence against "the share is at most `limit`", at least 0; 20 is as much as 95 % sure.

    The likelihood ratio of the count, averaged over the shares q above the limit with weights 1 / q: a share
    of a few per cent is what failing releases have, and is not to drown among shares of a half.

    Args:
        hits: how often it happened.
        of: how often it could have.
        limit: the share that is allowed, 0 to 1.

    Raises:
        ValueError: the numbers are no count, or the limit is no share.
    """
    if not 0 <= hits <= of:
        raise ValueError(f"{hits} of {of} is no count")
    if not 0 <= limit <= 1:
        raise ValueError(f"a limit of {limit} is no share")
    if hits == 0 or limit == 1:
        return 0.0
    if limit == 0:
        return math.inf
    from scipy.special import betainc, betaln  # a fifth of a second, which the command line need not spend

    # The integral of q^(hits-1) (1-q)^(of-hits) from the limit to 1.
    above = float(betainc(of - hits + 1, hits, 1 - limit))
    if above == 0:
        return 0.0
    at_limit = hits * math.log(limit) + (of - hits) * math.log1p(-limit)
    logarithm = float(betaln(hits, of - hits + 1)) + math.log(above) - math.log(-math.log(limit)) - at_limit
    return math.exp(min(logarithm, 700.0))
