"""Elasticsearch with the ranking of the embedded index.

backend   ``ElasticsearchBackend``: search
address   the URI of an index, and connections to its server
link      batches searches of one process on one event loop
layout    mapping, analyzer and manifest of an index
load      loads passages into a new index, resumable
bulk      bulk requests
history   indexes that earlier loads left
vectors   sentence embeddings for hybrid search
fusion    reciprocal rank fusion
"""
