"""A service reduced to what the stack asks of one: an admin port with /ready, and an end at SIGTERM."""

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ready" and "NEVER_READY" not in os.environ else 503)
        self.end_headers()


if __name__ == "__main__":
    server = HTTPServer((os.environ["PULSE_ADMIN_HOST"], int(os.environ["PULSE_ADMIN_PORT"])), Ready)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    server.serve_forever()
