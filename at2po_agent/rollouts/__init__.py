"""Questions to trees: sampling through an environment, with any expansion strategy.

grow       one tree: the asynchronous loop around an expansion strategy
replay     stored trees taken again, to be grown further
batch      the trees of many questions on one engine
lockstep   admission that depends on the seed alone, for repeatable runs
outages    waits for a search or an engine that is away, and says so once
evaluate   greedy evaluation, one chain for each question
"""
