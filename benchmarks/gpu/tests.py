"""The tests that touch CUDA."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.gpu.machine import arguments_of


def main() -> int:
    arguments = arguments_of(__doc__)
    # Where the distribution's tests need what is not installed here, those files are left out and named.
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rs", "-p", "no:cacheprovider", "tests/at2po_agent"]
    command += ["tests/benchmarks", "--continue-on-collection-errors", f"--timeout={max(10, arguments.seconds):.0f}"]
    if arguments.tiny:
        command.append("--collect-only")
    code = subprocess.run(command).returncode
    return 0 if code == 5 else code  # 5: no test has the marker


if __name__ == "__main__":
    sys.exit(main())
