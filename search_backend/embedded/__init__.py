"""A BM25 index on disk, searched in this process.

backend   ``EmbeddedIndex``: search
build     makes an index from passages
files     the files of an index and its manifest
cache     indexes that are built once and opened again
impacts   the scores of common words, as columns that rule passages out
sort      sorts a corpus that does not fit into memory
"""
