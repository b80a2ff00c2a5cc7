"""Requests to an OpenAI-compatible chat endpoint.

client           ``ChatEndpoint``: one request, with retries and limits
http_client      the HTTP client below it: whole answers within bounds
conversation     an episode as messages, with actions in tags or as tool calls
replies          what an endpoint answered
thoughts         replies that begin inside a thought
refusals         what an endpoint refuses, and whether to change the request or to stop
context          how many tokens fit where more were refused
pacing           fewer requests at a time while an endpoint is overloaded
key              the API key, hidden in everything that comes back
response_cache   answers kept in a file
"""
