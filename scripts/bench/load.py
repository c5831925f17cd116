"""Load by `wrk`, and the figures it prints."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass

_POST = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "{content_type}"
wrk.headers["Authorization"] = "Bearer {token}"
wrk.headers["Prefer"] = "{prefer}"
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
file:close()
"""
_PRINT = """
done = function(summary, latency, requests)
  io.write(string.format("figures %d %d %d %d %d %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""
_FIGURES = re.compile(r"figures (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One run: requests per second, latencies in ms, and answers that were not 2xx or failed."""

    per_s: float
    p50_ms: float
    p99_ms: float
    bad_status: int
    failed: int


def post(
    url: str,
    body: bytes,
    *,
    token: str,
    clients: int,
    seconds: int,
    prefer: str = "wait=10",
    content_type: str = "application/json",
) -> Load:
    """Post `body` again and again from `clients` connections for `seconds`."""
    with tempfile.NamedTemporaryFile() as data:
        data.write(body)
        data.flush()
        lua = _POST.format(token=token, prefer=prefer, body=data.name, content_type=content_type)
        return run_wrk(url, lua, clients=clients, seconds=seconds)


def run_wrk(url: str, lua: str, *, clients: int, seconds: int) -> Load:
    """Send what the script makes from `clients` connections for `seconds`."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(lua + _PRINT)
        script.flush()
        command = [wrk, "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "--latency", "-s", script.name, url]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    match = _FIGURES.search(printed)
    if match is None:
        raise SystemExit(f"wrk printed no figures:\n{printed}")
    requests, micros, p50, p99, status, failed = map(int, match.groups())
    return Load(per_s=requests / micros * 1e6, p50_ms=p50 / 1000, p99_ms=p99 / 1000, bad_status=status, failed=failed)
