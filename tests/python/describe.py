"""Asks every REST call that the broker describes for what the description allows and for what it does not.

    describe.py PROGRAM FOLDER

PROGRAM is the broker, FOLDER an empty one to work in. The requests are made by schemathesis from /openapi.json, with a fixed
seed: no answer may be a 5xx, or have a status, a content type or a shape that the description does not name. What is
forbidden is not asked to be refused: the generator also forbids headers that no call knows. Left out: the stream, which
does not end, and request and reply, which is a 504 when nobody replies.

Exit codes: 0 all answers are as described, 1 one is not, 77 skipped (the reason is the last line).
"""

import os
import pathlib
import re
import subprocess
import sys
import time

SKIPPED = 77
SEED = 20261125
EXAMPLES_MAX = 15
SECONDS_MAX = 100
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
# Each waits for what somebody else does.
LEFT_OUT = ("/v1/queues/{queue}/stream", "/v1/request/{topic}")


def start(program, folder):
    """Starts the broker on free ports; answers it and its REST address."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("BROKER_", "BACKEND_"))}
    env.update(
        BROKER_DATA_DIR=str(folder / "data"),
        BROKER_REST_ADDR="127.0.0.1:0",
        BROKER_GRPC_ADDR="127.0.0.1:0",
        # Receives wait for half of it at most.
        BROKER_REQUEST_TIMEOUT_SECS="1",
        BROKER_FREE_BYTES_MIN="0",
        NO_COLOR="1",
    )
    log = folder / "log"
    with log.open("w") as output:
        broker = subprocess.Popen([program], cwd=folder, env=env, stdout=output, stderr=output)
    deadline = time.monotonic() + 20
    while True:
        found = re.search(r"listening.*rest=([0-9.:]+)", log.read_text())
        if found:
            return broker, found[1]
        if broker.poll() is not None or time.monotonic() > deadline:
            broker.kill()
            sys.exit(f"the broker does not listen:\n{log.read_text()}")
        time.sleep(0.02)


def main():
    program, folder = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    schemathesis = pathlib.Path(sys.executable).with_name("schemathesis")
    if not schemathesis.exists():
        print("skipped: schemathesis is not installed beside this Python")
        sys.exit(SKIPPED)
    broker, addr = start(program, folder)
    try:
        command = [schemathesis, "run", f"http://{addr}/openapi.json", "--checks", ",".join(CHECKS)]
        command += ["--phases", "coverage,fuzzing", "--seed", str(SEED), "--max-examples", str(EXAMPLES_MAX)]
        command += ["--max-time", str(SECONDS_MAX), "--request-timeout", "10", "--continue-on-failure", "--no-shrink"]
        command += ["--generation-database", "none"]
        for path in LEFT_OUT:
            command += ["--exclude-path", path]
        done = subprocess.run(command, cwd=folder, timeout=SECONDS_MAX + 60)
        if broker.poll() is not None:
            sys.exit(f"the broker ended with {broker.returncode}")
        sys.exit(1 if done.returncode else 0)
    finally:
        broker.terminate()
        broker.wait(timeout=30)


if __name__ == "__main__":
    main()
