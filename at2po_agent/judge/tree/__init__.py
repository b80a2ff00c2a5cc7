"""AT²PO's tree, grown with any model: the answers of its leaves vote, beside those of chains that cost as much.

policy   a chat endpoint as the policy of one tree
search   the trees and chains of every question
local    the same of a model in this process
voting   one answer from many, and what each number of tokens buys
"""
