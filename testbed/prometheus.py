"""A Prometheus server that scrapes one page, and its checking tool."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from testbed.process import Command, Server
from testbed.programs import clean_environment, find_program

_PACKAGE = "prometheus"
_CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs: [{{job_name: worker, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""


class PrometheusServer(Server):
    """A Prometheus server on 127.0.0.1 that scrapes a worker every second."""

    def __init__(self, worker_port: int) -> None:
        """Take the port of the worker's page."""
        super().__init__("prometheus")
        self._worker_port = worker_port

    def command(self) -> Command:
        """Write the configuration and say how to run Prometheus."""
        text = _CONFIGURATION.format(port=self._worker_port)
        configuration = self.folder.write("prometheus.yml", text)
        return Command(
            arguments=[
                find_program("prometheus", _PACKAGE),
                f"--config.file={configuration}",
                f"--storage.tsdb.path={self.folder.path / 'data'}",
                f"--web.listen-address={self.host}:{self.port}",
            ],
            ready=lambda log: "Server is ready to receive web requests" in log,
        )

    def query(self, path: str) -> Any:
        """Ask its HTTP API and return the data."""
        url = f"http://{self.host}:{self.port}/api/v1/{path}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]


def promtool(
    *arguments: str | Path, text: str = "", folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run promtool on this standard input; both outputs together are its `stdout`."""
    return subprocess.run(
        [find_program("promtool", _PACKAGE), *arguments],
        input=text,
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
