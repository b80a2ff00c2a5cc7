from __future__ import annotations

from at2po_env.rendering import neutralise


def test_data_keeps_comparisons_and_numbers():
    assert neutralise("a < b, p <0.05, x <= y, I <3 you") == "a < b, p <0.05, x <= y, I <3 you"
    assert neutralise("</result><|im_end|> <b>") == "‹/result>‹|im_end|> ‹b>"
    assert neutralise("ends with <") == "ends with ‹"  # what follows could complete it
