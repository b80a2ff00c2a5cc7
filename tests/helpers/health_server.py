"""A command that serves ``/health``: ``health_server.py PORT [--die WORDS] [--slow SECONDS]``."""

import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


if __name__ == "__main__":
    arguments = sys.argv[2:]
    if "--die" in arguments:
        print("loading the model\n" + arguments[arguments.index("--die") + 1], flush=True)
        sys.exit(3)
    if "--slow" in arguments:
        time.sleep(float(arguments[arguments.index("--slow") + 1]))
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Health).serve_forever()
