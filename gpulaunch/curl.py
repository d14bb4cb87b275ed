"""The curl command that asks a model, as the command and the pages show it."""

import json
import shlex
from urllib.parse import urlsplit


def chat_command(endpoint: str, model: str, server_name: str | None = None, authority: str = "") -> str:
    """Ask a model; the key is read from OPENAI_API_KEY.

    Args:
        endpoint: The base address, which ends in `/v1`.
        model: The name under which it is served.
        server_name: Of a node's own address, the name in its certificate.
        authority: What vouches for that certificate, as the shell names the file.
    """
    url, trust = endpoint, ""
    if server_name is not None:
        # The node's name is in no name server: curl checks it, and connects to the address.
        address = urlsplit(endpoint)
        url = f"https://{server_name}:{address.port}{address.path}"
        trust = f"--cacert {authority} --connect-to ::{address.netloc} "
    question = {"model": model, "messages": [{"role": "user", "content": "Say hello."}]}
    return (
        f"curl -sS {trust}{shlex.quote(url + '/chat/completions')} \\\n"
        '  -H "Authorization: Bearer $OPENAI_API_KEY" -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(json.dumps(question))}"
    )
