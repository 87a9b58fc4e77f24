"""Asks every REST call that the broker describes for what the description allows and for what it does not.

    describe.py PROGRAM FOLDER

PROGRAM is the broker, FOLDER an empty one to work in. The requests are made by schemathesis from /openapi.json, with a fixed
seed: no answer may be a 5xx, or have a status, a content type or a shape that the description does not name. What is
forbidden is not asked to be refused: the generator also forbids headers that no call knows.

The generator leaves out two calls that wait for what somebody else does: request and reply, and the stream, which does not
end. They are asked here, for an answer and for each kind of refusal, and what they say is held against the description, too.

Exit codes: 0 all answers are as described, 1 one is not, 77 skipped (the reason is the last line).
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

try:
    # What schemathesis checks with, too.
    import jsonschema_rs
    import requests
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

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
STREAM = "/v1/queues/{queue}/stream"
REQUEST = "/v1/request/{topic}"
LEFT_OUT = (STREAM, REQUEST)
PATIENCE = 10


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


class Described:
    """The broker, whose answers are held against its description."""

    def __init__(self, addr):
        self.url = f"http://{addr}"
        self.description = requests.get(f"{self.url}/openapi.json", timeout=PATIENCE).json()

    def check(self, path, method, response, text=None):
        """Says what the response says, if the description lets it; text is what was read of a stream."""
        described = self.description["paths"][path][method]["responses"]
        status = str(response.status_code)
        assert status in described, f"{method} {path}: {status} is not described"
        media_type = response.headers["content-type"].split(";")[0]
        content = described[status]["content"]
        assert media_type in content, f"{method} {path}: {status} {media_type} is not described"
        said = json.loads(response.text if text is None else text)
        schema = content[media_type]["schema"] | {"components": self.description["components"]}
        jsonschema_rs.validate(schema, said)
        return said

    def request(self, topic, body, want, **more):
        response = requests.post(f"{self.url}/v1/request/{topic}", json=body, timeout=PATIENCE, **more)
        assert response.status_code == want, f"{body}: {response.status_code} {response.text}"
        return self.check(REQUEST, "post", response)

    def stream(self, queue, query, want):
        with requests.get(f"{self.url}/v1/queues/{queue}/stream", params=query, stream=True, timeout=PATIENCE) as response:
            assert response.status_code == want, f"{query}: {response.status_code} {response.text}"
            if want != 200:
                return self.check(STREAM, "get", response)
            # Up to the first message, and no further.
            lines = response.iter_lines(chunk_size=1, decode_unicode=True)
            data = next(line for line in lines if line.startswith("data: "))
            return self.check(STREAM, "get", response, data.removeprefix("data: "))

    def post(self, path, body):
        response = requests.post(f"{self.url}{path}", json=body, timeout=PATIENCE)
        response.raise_for_status()
        return response.json()


def check_requests(broker):
    """Request and reply: answered, not answered, refused."""

    def answer():
        asked = []
        while not asked:
            asked = broker.post("/v1/queues/asked/pull", {"wait_seconds": 0.5, "auto_ack": True})["messages"]
        reply = {"json": {"to": asked[0]["json"]}, "correlation_id": asked[0]["correlation_id"]}
        broker.post(f"/v1/topics/{asked[0]['reply_to']}/publish", {"messages": [reply]})

    answering = threading.Thread(target=answer, daemon=True)
    answering.start()
    said = broker.request("asked", {"message": {"json": 1}, "timeout_seconds": 0.5}, 200)
    assert said["reply"]["json"] == {"to": 1}, said
    answering.join(PATIENCE)
    said = broker.request("nobody", {"message": {"json": 1}, "timeout_seconds": 0.01}, 504)
    assert said["code"] == "deadline_exceeded", said
    refused = {
        "message": {"timeout_seconds": 1},
        "message.json": {"message": {}},
        "message.reply_to": {"message": {"json": 1, "reply_to": "x"}},
        "message.delay_seconds": {"message": {"json": 1, "delay_seconds": -1}},
        "timeout_seconds": {"message": {"json": 1}, "timeout_seconds": 61},
        "other": {"message": {"json": 1}, "other": 1},
    }
    for field, body in refused.items():
        said = broker.request("nobody", body, 400)
        assert said["field"] == field, said
    broker.request("a..b", {"message": {"json": 1}}, 400)
    broker.request("nobody", {"message": {"text": "x" * (4032 * 1024 + 1)}}, 413)
    broker.request("nobody", {"message": {"json": 1}}, 415, headers={"content-type": "text/plain"})
    broker.post("/register", {"service_name": "asked-service", "topics": ["asked"]})
    broker.request("asked.asked-service", {"message": {"json": 1}}, 409)


def check_streams(broker):
    """The stream: its first message, and what is refused."""
    payloads = {"json": {"a": 1}, "text": "two", "data_base64": "/wA="}
    for form, payload in payloads.items():
        queue = f"streamed-{form}"
        message = {form: payload, "attributes": {"k": "v"}, "ordering_key": "o"}
        broker.post(f"/v1/topics/{queue}/publish", {"messages": [message]})
        said = broker.stream(queue, {"max_outstanding_messages": 1, "consumer": "reader"}, 200)
        assert (said[form], said["delivery_attempt"]) == (payload, 1), said
    refused = {
        "max_outstanding_messages": 0,
        "max_outstanding_bytes": 0,
        "ack_deadline_seconds": 9,
        "consumer": "x" * 256,
        "service": "a..b",
        "other": 1,
    }
    for field, value in refused.items():
        said = broker.stream("streamed", {field: value}, 400)
        assert said["field"] == field, said


def main():
    program, folder = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    schemathesis = pathlib.Path(sys.executable).with_name("schemathesis")
    if not schemathesis.exists():
        print("skipped: schemathesis is not installed beside this Python")
        sys.exit(SKIPPED)
    broker, addr = start(program, folder)
    try:
        described = Described(addr)
        check_requests(described)
        check_streams(described)
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
