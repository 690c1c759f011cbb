"""What is different between two settings, for the messages that refuse to mix them."""


def differences(theirs, mine, names=None):
    """What differs between the settings that were found and those that are wanted.

    Args:
        theirs, mine: dictionaries of name -> value; a name that is not in one is `None` there.
        names: the names to compare, in the order in which they are to be told. `None` is all, sorted.

    Returns:
        List of `"<name> <their value> there, <mine> here"`; empty where there is no difference.
    """
    return [
        f"{name} {theirs.get(name)!r} there, {mine.get(name)!r} here"
        for name in (sorted({*theirs, *mine}) if names is None else names)
        if theirs.get(name) != mine.get(name)
    ]
