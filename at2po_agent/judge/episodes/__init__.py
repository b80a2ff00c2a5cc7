"""Single episodes of an evaluation.

play      episodes of a model at an endpoint
local     episodes of a model in this process
records   an episode as it is stored
"""
