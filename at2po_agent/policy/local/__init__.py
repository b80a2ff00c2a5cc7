"""The engine in this process: continuous batching on the trained module itself.

policy         ``LocalPolicy``: requests from any task, one thread that runs batches
batch          the rows that are decoded together
forward        the layers of a model, written out for cached keys and values
captured       decode steps as CUDA graphs
kv             keys and values of a batch
sampler        sampling from the full distribution with noise addressed by a key
stops          where a turn ends
prefix_cache   keys and values of sequences that were read before
"""
