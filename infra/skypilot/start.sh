#!/usr/bin/env bash
# Start SkyPilot's API server: sign az in with the container's identity and require a token for every request.
# gpulaunch sends its settings (NO_UPLOAD for every cloud among them) with each request.
set -euo pipefail

# Until `azd deploy skypilot` has built the image, another one answers in its place: without a healthy container, Azure
# reports the whole deployment as failed.
if ! command -v sky >/dev/null; then
  exec python3 -c '
import http.server, signal, sys

class Absent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 503)
        self.end_headers()

    do_POST = do_GET

# The first process of a container ignores what it does not handle.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Absent).serve_forever()
' "${SKYPILOT_API_SERVER_LOCAL_PORT:-46580}"
fi

if [[ -n "${SKYPILOT_DB_CONNECTION_URI:-}" && -f /opt/gpulaunch/alone.py ]]; then
  # An update starts this container beside the old one, and two servers on one database would know half of the requests each.
  alone="$(mktemp -d)/ready"
  python3 /opt/gpulaunch/alone.py "$$" "$alone" &
  until [[ -f "$alone" ]]; do
    kill -0 "$!" || exit 1
    sleep 0.2
  done
fi

if [[ -n "${AZURE_CLIENT_ID:-}" ]]; then
  # Before version 2.65, az used this name to tell the identity endpoint of Container Apps from a virtual machine's.
  export APPSETTING_WEBSITE_SITE_NAME="${APPSETTING_WEBSITE_SITE_NAME:-container-app}"
  az login --identity --client-id "$AZURE_CLIENT_ID" --output none
  az account set --subscription "$AZURE_SUBSCRIPTION_ID"
  # A managed identity's tokens are not cached on disk, but SkyPilot takes a missing cache for a missing login.
  [[ -f "$HOME/.azure/msal_token_cache.json" ]] || echo '{}' >"$HOME/.azure/msal_token_cache.json"
fi

if [[ -n "${GPULAUNCH_TOKEN_VAULT:-}" ]]; then
  # Both are needed: tokens alone would admit anonymous requests. No basic-auth user is ever created.
  export ENABLE_BASIC_AUTH=true ENABLE_SERVICE_ACCOUNTS=true
  # Elsewhere than in the image the file is missing; the server then rejects everyone.
  if [[ -f /opt/gpulaunch/admit.py ]]; then
    (
      until curl --silent --fail --max-time 5 "http://127.0.0.1:${SKYPILOT_API_SERVER_LOCAL_PORT:-46580}/api/health" >/dev/null; do sleep 3; done
      # Hourly: a failure is logged and retried, and an ageing token is replaced.
      while true; do
        python3 /opt/gpulaunch/admit.py || true
        sleep 3600
      done
    ) &
  fi
fi

# SkyPilot's managed jobs are not used; by default a deployed server starts a dozen processes for them, 160 MB each. Beside
# a database the server takes one key from this file and no more.
mkdir -p "$HOME/.sky"
[[ -f "$HOME/.sky/config.yaml" ]] \
  || printf 'jobs:\n  controller:\n    consolidation_mode: false\n' >"$HOME/.sky/config.yaml"

export SKYPILOT_DISABLE_USAGE_COLLECTION=1
exec sky api start --deploy --foreground
