"""Stored evaluations, and what is read from them.

directory     the run directory of an evaluation, while it runs
manifest      what decides an evaluation's results
stored        an evaluation that was read back
metrics       means with intervals
diagnosis     why a finished evaluation is broken, and what to try
comparison    paired differences between evaluations
tables        summaries and comparisons as tables
tree_report   the result of an evaluation with ``--tree``
rescore       stored answers, or turns, scored again
traces        episodes as training examples for supervised fine-tuning
"""
