"""Evaluation of any model: an OpenAI-compatible endpoint, a model directory or a training run.

config       every setting of an evaluation
resolve      which model and which environments a configuration names
opening      its environment, opened as it is configured
measured     what is measured: the environment's metrics, and what every episode has
search_qa    scores of search questions, which have fields of their own in records
evaluation   one evaluation, from its configuration to its summary
dry_run      what an evaluation would do
display      progress while it runs
endpoint     requests to a chat endpoint
episodes     single episodes and their records
tree         the tree of training, grown with the judged model (``--tree``)
results      stored evaluations: numbers, comparisons, tables
view         episodes and trees to read, in the terminal and as an HTML page
"""
