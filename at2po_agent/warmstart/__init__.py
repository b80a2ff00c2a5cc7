"""A starting policy, made by imitation of a scripted searcher.

run              ``at2po-agent warm-start``: demonstrations, fit, evaluation, model directory
teacher          the scripted searcher, and the mistakes that it is given
demonstrations   episodes of the teacher as token ids
imitation        the fit to the demonstrations
new_model        a small tokenizer and model from nothing
"""
