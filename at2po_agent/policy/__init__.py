"""Policies that sample turns: token ids in, token ids and log-probabilities out.

architecture  a model's configuration, read and checked without its weights
base          the seam: ``Policy``, ``Request``, ``Sampling``, ``Completion``; to add a policy, implement ``generate``
codec         text to token ids and back, with untrusted text kept apart from the scaffold
engine        ``Engine``: a policy that follows a trained model
loading       models and tokenizers from a directory or from this package
lora          low-rank adapters in place of the weights
prefixes      sequences, found again by their longest common prefix
retokenised   a policy that reads re-encoded histories, to measure what that costs
local         the engine in this process
sglang        the engine that samples on SGLang servers
"""
