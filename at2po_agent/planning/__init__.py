"""Measurements before a run: is the task fit to learn from, does the run fit into memory.

gates           what the baselines of an environment, and a policy, reach on it
plan            the memory and the tokens that a run needs
step_size       trees, paths and tokens of a step
update_memory   what an update holds, traced without computing
server_memory   what an SGLang server holds
model_sizes     a model's sizes without its weights
retokenise      what re-encoding sampled text would change
"""
