from __future__ import annotations

import pytest
from elasticsearch import Elasticsearch


@pytest.fixture
def uri(elasticsearch_host, name):
    """Of an index that no other test has."""
    return f"elasticsearch://{elasticsearch_host}/{name}"


@pytest.fixture
def client(elasticsearch_host):
    """To look at the server, and to change what is there, past the backend."""
    with Elasticsearch(f"http://{elasticsearch_host}") as client:
        yield client
