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
