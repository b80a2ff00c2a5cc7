"""What a borrowed GPU machine is asked, in one command.

    python -m benchmarks.gpu --minutes 8 [--only update,kernels,engine,sglang,train,tests] [--bundle DIR]

Every part is a program of its own with its share of the time, so that one that fails or hangs costs the others nothing.
Lines are printed as they come, and ``benchmarks/results/gpu-DEVICE.txt`` is written after every part. It works from a
plain copy of the source, without network; ``update``, ``kernels`` and ``engine`` need torch and transformers alone.

environment  what machine it is
tests        those with the marker ``gpu``
update       the packed update beside unrolled paths
kernels      attention along trees and the loss, each in the ways that there are
engine       the local engine beside transformers' ``generate`` and ``generate_batch``
sglang       a training run through ``engine.launch``, weights by way of the disk, memory released
train        a real model on real questions, ``at2po`` and ``grpo`` at equal generated tokens

``--bundle DIR`` runs nothing: it collects here, in parts that can be carried there, what that machine lacks.
"""
