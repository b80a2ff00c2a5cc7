from at2po_agent.terminal import visible


def test_what_would_steer_a_terminal_is_shown():
    assert visible(" \x1b[2Ja\u202eb\u2066c\u200f\x07\ud800 ") == "�[2Ja�b�c���"
    assert visible("Füße\n\tשלום") == "Füße\n\tשלום"


def test_a_cut_says_so():
    assert visible("abcdef", 3) == "abc… (6 characters)"
    assert visible("abc", 3) == "abc"
