"""AT²PO's tree, grown through a chat endpoint.

policy   the endpoint as the policy of one tree
search   the trees and chains of every question
voting   one answer from many, and what each number of tokens buys
"""
