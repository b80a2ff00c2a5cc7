"""The engine that samples on SGLang servers; needs no ``sglang`` package.

policy        ``SGLangPolicy``: samples from servers that run already
engine        ``SGLangEngine``: servers that follow a trained model, shared by the processes of a run
publisher     ``Publisher``: gives servers the weights, and again to those that come back
server        the generating side of one server
batcher       sends turns that are ready at the same time as one request
transport     HTTP to one server or router
admin         the control side of one server
fleet         several servers with the same weights, and which of them samples a turn
router        SGLang's own router before several servers
check         asks every server about a known prompt before it is used
read_ahead    reads a prompt that many requests share once
launch        starts servers for a run
keeper        ends a server when the trainer dies
weight_sync   sends weights by disk, by tensors or by a process group; to add a way, see ``WeightSync``
"""
