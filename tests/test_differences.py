from keras_stm.differences import differences


def test_what_differs_is_told_by_name_all_of_it_sorted():
    theirs, mine = {"same": 1, "b": 0.5, "gone": "x"}, {"same": 1, "b": 0.25, "a": None, "new": (1,)}
    assert differences(theirs, mine) == ["b 0.5 there, 0.25 here", "gone 'x' there, None here"] + [
        "new None there, (1,) here"
    ]
    assert differences(mine, mine) == []


def test_names_choose_what_is_compared_and_its_order():
    assert differences({"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 2, "c": 2}, ["c", "a"]) == [
        "c 1 there, 2 here",
        "a 1 there, 2 here",
    ]
