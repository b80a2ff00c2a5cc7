"""Elasticsearch with the ranking of the embedded index.

backend   ``ElasticsearchBackend``: search
address   the URI of an index
failures  what the failures of a server mean, and which requests are sent again
nodes     connections whose answers are bounded
link      batches searches of one process on one event loop
answers   checks that answers are whole, and reads their hits
layout    mapping, analyzer and manifest of an index
load      loads passages into a new index, resumable
bulk      bulk requests
history   indexes that earlier loads left
vectors   sentence embeddings for hybrid search
fusion    reciprocal rank fusion
"""
