"""Put `opa` and `regal`, in the versions that we use, into .tools/bin (`make tools`).

python3 -m scripts.tools

Built from source by Go, which checks every module against its sum database. A program that is on PATH or in .tools/bin
already, and new enough, is left as it is. Needs no package of ours; exit code 1 if one is missing at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

from app.adapters.opa_tools import CHECKOUT_BIN, TOOLS, Tool, find_tool, format_version

HOW_TO_GET_GO = "install Go 1.26 or newer, or put {missing} on PATH; nothing but tests and policy authors need them"


def main() -> int:
    """Build what is missing."""
    missing = [tool for name, tool in TOOLS.items() if find_tool(name) is None]
    go = shutil.which("go")
    if missing and go is None:
        names = " and ".join(f"{tool.name} {format_version(tool.version)}" for tool in missing)
        print(f"tools: Go is not on PATH: {HOW_TO_GET_GO.format(missing=names)}", file=sys.stderr)
        return 1
    for tool in missing if go else []:
        print(f"tools: building {tool.name} {format_version(tool.version)} (some minutes, once) …", flush=True)
        if not build(go or "", tool):
            print(f"tools: {tool.name} was not built; Go's own words are above", file=sys.stderr)
            return 1
    for name in TOOLS:
        print(f"tools: {name} is {find_tool(name) or CHECKOUT_BIN / name}")
    return 0


def build(go: str, tool: Tool) -> bool:
    """Say whether the program is in .tools/bin now."""
    CHECKOUT_BIN.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "GOBIN": str(CHECKOUT_BIN), "CGO_ENABLED": "0"}
    module = f"{tool.module}@v{format_version(tool.version)}"
    flags = ["-trimpath", f"-ldflags=-X {tool.version_variable}={format_version(tool.version)}"]
    if subprocess.run([go, "install", *flags, module], env=environment, check=False).returncode == 0:
        return True
    # A module proxy may serve the version and refuse the list of versions, which `install` reads for deprecations.
    print(f"tools: building {tool.name} from its own module instead", flush=True)
    fetched = subprocess.run(
        [go, "mod", "download", "-json", module], env=environment, check=False, stdout=subprocess.PIPE
    )
    if fetched.returncode:
        return False
    command = [go, "build", "-C", json.loads(fetched.stdout)["Dir"], *flags, "-o", str(CHECKOUT_BIN / tool.name), "."]
    return subprocess.run(command, env=environment, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
