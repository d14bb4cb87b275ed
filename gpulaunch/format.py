"""Amounts and lengths of time as people read them: the command and the pages write them alike.

The pages' script (shared/web/static/app.js) counts in the same format.
"""


def usd(amount: float) -> str:
    """Dollars to the cent; below ten cents to a hundredth of a cent, so that a running cost visibly moves."""
    return f"${amount:,.4f}" if 0 < abs(amount) < 0.1 else f"${amount:,.2f}"


def duration(seconds: float) -> str:
    """A length of time in its two largest units: `45 s`, `1 m 22 s`, `3 h 5 m`, `2 d 4 h`. Negative ones are 0 s."""
    if seconds < 10:
        return f"{max(0, round(seconds, 1)):g} s"
    whole = int(seconds)
    for size, unit, part, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def span(least: float | None, most: float | None) -> str:
    """An expected length of time, rounded: `about 30 s`, `45 s to 15 m`, `1 to 14 m`; empty if unknown."""
    if least is None or most is None:
        return ""
    if least == most:
        return f"about {_whole(most)}"
    low, high = _whole(least), _whole(most)
    return f"{low.split()[0]} to {high}" if low.split()[1] == high.split()[1] else f"{low} to {high}"


def _whole(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 60 else f"{seconds / 60:.0f} m"
