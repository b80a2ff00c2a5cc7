"""Credited trees to changed weights, every token of a tree forwarded once.

packing          trees as one packed sequence, and unrolled rows gathered from it
micro_batches    which process forwards which trees, and when
trainable        which models packed training is right for
tree_attention   attention in which a token sees its own path only: the seam of two layouts
attention_blocks  blocks over sdpa
attention_flex   FlexAttention, on CUDA
logprobs         log-probabilities and entropies of a packed or an unrolled forward
forwarding       a model's forward and backward over micro-batches
schedule         settings of the update, and the learning rate of each step
updater          ``Updater``: the optimiser step
sharding         weights and optimiser state split over processes (FSDP2), or gradients summed
processes        the processes of a run, whoever started them
local_processes  those that the command starts on the CPUs of one host
"""
