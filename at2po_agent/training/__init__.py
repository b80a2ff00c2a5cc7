"""A training run, from its configuration to its last checkpoint.

config         every setting of a run, composed
trainer        ``train``: the loop of rollout, credit, update, evaluation and checkpoint
session        what a run works with: environments, model, engine, algorithm
engines        the engine that a configuration names
batches        the trees of a step, and those that a checkpoint holds for the next one
workers        the processes of a run as rollout workers
watch          stops a run that cannot learn
collapse       says when training begins to collapse
recorder       everything that a run writes down and shows
run_dir        the run directory
stored_files   reads stored files and checks them against types
stored_types   the types of what a run stores
validation     checks a configuration before anything is loaded
continuation   is a run that goes on still the same, and whole?
checkpoints    checkpoints that appear whole or not at all
export         a checkpoint as a model directory
metrics        the numbers of a step and of an evaluation
display        the live display
loggers        TensorBoard and Weights & Biases
summary        the table at the end
stored_trees   trees as they are stored and drawn
"""
