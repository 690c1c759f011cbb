"""Differences between two settings, for error messages about settings that do not match."""


def differences(theirs, mine, names=None):
    """Returns the differences between the settings that were found and the current settings.

    Args:
        theirs: dictionary from name to value of the settings that were found. Missing names count as `None`.
        mine: dictionary of the current settings, likewise.
        names: the names to compare, in the order of the result; `None` compares all names, sorted.

    Returns:
        List of `"<name> <their value> there, <my value> here"`; empty if there is no difference.
    """
    return [
        f"{name} {theirs.get(name)!r} there, {mine.get(name)!r} here"
        for name in (sorted({*theirs, *mine}) if names is None else names)
        if theirs.get(name) != mine.get(name)
    ]
