"""An S3 server of moto's, standing for Cloudflare R2: the protocol is real, the account is not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import boto3
from botocore.config import Config

from tests.e2e.stack import model
from tests.e2e.stack.processes import Processes, free_port, port_open, wait_until

# moto imports most of itself at the start: three seconds on two idle cores.
START_SECONDS = 60


@dataclass
class S3:
    """The server's address and the credentials it was given; moto accepts any, so that these are only a name."""

    processes: Processes
    port: int = field(default_factory=free_port)
    access_key_id: str = "e2e-access-key"
    secret_access_key: str = "e2e-secret-key"
    bucket: str = "models"
    _server: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """What stands in place of https://<account>.r2.cloudflarestorage.com."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = self.processes.start(
            "s3", [Path(sys.executable).parent / "moto_server", "-H", "127.0.0.1", "-p", str(self.port)]
        )
        wait_until(lambda: port_open(self.port), seconds=START_SECONDS, what="moto's S3 server")
        # R2's region is "auto", in which moto, an AWS at heart, makes no buckets.
        self.client(region="us-east-1").create_bucket(Bucket=self.bucket)

    def stop(self) -> None:
        """End the server; what was stored is gone with it."""
        if self._server is not None:
            self.processes.stop(self._server)
            self._server = None

    def client(self, *, region: str = "auto", endpoint: str | None = None) -> Any:
        connect = cast(Any, boto3).client
        return connect(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=region,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}),
        )

    def upload(self, folder: Path, prefix: str) -> str:
        """Store the model in `folder` under `prefix` and return its source in our API's words, `r2://bucket/prefix`."""
        client = self.client()
        for path in model.files(folder):
            client.upload_file(str(path), self.bucket, f"{prefix}/{path.name}")
        return f"r2://{self.bucket}/{prefix}"
