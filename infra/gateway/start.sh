# The gateway, in its own image. Until `azd deploy gateway` has built that, another image answers in its place: without
# a healthy container, Azure reports the whole deployment as failed.
if [ -d /opt/gpulaunch/gateway ]; then
  cd /opt/gpulaunch && exec python -m gateway
fi
exec python3 -c '
import http.server, os, signal, sys

class Absent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = self.path == "/readyz"
        self.send_response(200 if ready else 503)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if not ready:
            text = "The gateway is not deployed yet. Run `azd deploy gateway`."
            self.wfile.write(b"{\"error\": {\"message\": \"%s\", \"type\": \"server_error\"}}" % text.encode())

    do_POST = do_GET

# The first process of a container ignores what it does not handle.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.ThreadingHTTPServer(("", int(os.environ["GATEWAY_PORT"])), Absent).serve_forever()
'
