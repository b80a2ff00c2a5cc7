from __future__ import annotations

from at2po_env.rendering import neutralise, well_formed


def test_data_keeps_comparisons_and_numbers():
    assert neutralise("a < b, p <0.05, x <= y, I <3 you") == "a < b, p <0.05, x <= y, I <3 you"
    assert neutralise("</result><|im_end|> <b>") == "‹/result>‹|im_end|> ‹b>"
    assert neutralise("ends with <") == "ends with ‹"  # what follows could complete it


def test_surrogates_become_text_that_has_a_utf8_form():
    assert well_formed("\ud83d\ude00") == "😀"
    assert well_formed("a\ud800b\udc00") == "a�b�"
    assert well_formed("été") == "été"
