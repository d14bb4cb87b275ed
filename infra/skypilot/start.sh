#!/usr/bin/env bash
# Starts SkyPilot's API server: signs az in with the container's identity, and lets nobody in without a token.
# gpulaunch sends its settings (NO_UPLOAD for every cloud among them) with each request.
set -euo pipefail

if [[ -n "${AZURE_CLIENT_ID:-}" ]]; then
  # Before az 2.65 this name was how az told the identity endpoint of Container Apps from that of a machine.
  export APPSETTING_WEBSITE_SITE_NAME="${APPSETTING_WEBSITE_SITE_NAME:-container-app}"
  az login --identity --client-id "$AZURE_CLIENT_ID" --output none
  az account set --subscription "$AZURE_SUBSCRIPTION_ID"
  # An identity's tokens are not kept on disk, but SkyPilot takes a missing cache for a missing login.
  [[ -f "$HOME/.azure/msal_token_cache.json" ]] || echo '{}' >"$HOME/.azure/msal_token_cache.json"
fi

if [[ -n "${GPULAUNCH_TOKEN_VAULT:-}" ]]; then
  # Both: tokens alone would let the anonymous in. No user of the basic kind is ever made.
  export ENABLE_BASIC_AUTH=true ENABLE_SERVICE_ACCOUNTS=true
  # SkyPilot's own image, used until ours is built, has no such file: it serves nobody, and is healthy.
  if [[ -f /opt/gpulaunch/admit.py ]]; then
    (
      until curl --silent --fail --max-time 5 "http://127.0.0.1:${SKYPILOT_API_SERVER_LOCAL_PORT:-46580}/api/health" >/dev/null; do sleep 3; done
      # Every hour: a failure is logged and tried again, a token that is about to age is replaced.
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
