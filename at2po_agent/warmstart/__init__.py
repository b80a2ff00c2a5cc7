"""A starting policy, made by imitation of a scripted teacher.

run              ``at2po-agent warm-start``: demonstrations, fit, evaluation, model directory
demonstrations   episodes of the environment's teacher as token ids
imitation        the fit to the demonstrations
new_model        a small tokenizer and model from nothing

The teacher is the environment's: ``at2po_env.tasks.Teacher``.
"""
