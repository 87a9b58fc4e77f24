"""Runs the clients of the original broker's README, unchanged, against a broker on the original's ports.

    run.py PROGRAM PROTO FOLDER

PROGRAM is the broker, PROTO its message.proto, FOLDER an empty one to work in. The scripts in original/ are the README's
snippets to the letter; the stubs that they import are generated from PROTO by grpc_tools, as the README says.

Exit codes: 0 all passed, 1 one failed, 77 skipped (the reason is the last line).
"""

import os
import pathlib
import re
import socket
import subprocess
import sys
import time

SKIPPED = 77
PORTS = (8001, 50051)
SCRIPTS = pathlib.Path(__file__).parent / "original"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
SIGNATURE = "'load_balancing': 'fair_dispatch', 'broker': 'custom_durable_file_backed'}"
ORDER = "{'order_id': 'ORD-123', 'total': 99.99, 'customer_id': 'CUST-456'}"


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def check_modules():
    try:
        import grpc  # noqa: F401
        import grpc_tools  # noqa: F401
        import requests  # noqa: F401
    except ImportError as missing:
        skip(f"{missing}; install requests, grpcio and grpcio-tools")


def check_ports():
    for port in PORTS:
        with socket.socket() as probe:
            # As the broker does: a connection that was closed a moment ago keeps nobody from listening.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                skip(f"port {port} is not free: {error}")


def generate_stubs(proto, folder):
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{proto.parent}"]
    command += [f"--python_out={folder}", f"--grpc_python_out={folder}", proto.name]
    subprocess.run(command, check=True, timeout=120)


def start(program, folder):
    """Starts the broker as the README says, with nothing set."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("BROKER_", "BACKEND_"))}
    broker = subprocess.Popen([program], cwd=folder, env=env)
    deadline = time.monotonic() + 20
    for port in PORTS:
        while True:
            if broker.poll() is not None:
                sys.exit(f"the broker ended with {broker.returncode}")
            try:
                socket.create_connection(("localhost", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    broker.kill()
                    sys.exit(f"the broker does not listen on port {port}")
                time.sleep(0.02)
    return broker


def run(script, folder, expected):
    """Runs one script; what it prints must be `expected`, a pattern for the whole of it."""
    env = dict(os.environ, PYTHONPATH=str(folder), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script)], cwd=folder, env=env, timeout=60, text=True, capture_output=True
    )
    if done.returncode != 0 or not re.fullmatch(expected, done.stdout.strip(), re.DOTALL):
        sys.exit(f"{script}: exit code {done.returncode}\n{done.stdout}{done.stderr}expected: {expected}")
    print(f"{script}: ok")


def literally(*parts):
    return "".join(re.escape(part) for part in parts)


def run_all(folder):
    registered = literally("{'status': 'ok', 'registered_topics': ['payment.processed', 'payment.failed'], ", SIGNATURE)
    published = literally("{'status': 'ok', 'delivered_to': 1, 'message_id': '") + UUID + ".*" + literally(SIGNATURE)
    received = f"Received message {UUID}\n" + literally("Topic: order.created\n", f"Payload: {ORDER}")
    consumed = f"Message ID: {UUID}\n" + literally(f"Payload: {ORDER}")
    run("register_rest.py", folder, registered)
    # Over REST in, over gRPC out.
    run("publish_rest.py", folder, published)
    run("consume_grpc.py", folder, received)
    run("consume_grpc.py", folder, "No messages available")
    # Over gRPC in, over REST out.
    run("publish_grpc.py", folder, rf"Message sent! ID: {UUID}")
    run("publish_rest.py", folder, published)
    run("consume_rest.py", folder, f"{consumed}\n{consumed}")
    run("consume_rest.py", folder, "")
    # Each side through itself, and through a restart.
    run("publish_grpc.py", folder, rf"Message sent! ID: {UUID}")
    return received


def main():
    program, proto, folder = (pathlib.Path(argument).resolve() for argument in sys.argv[1:4])
    check_modules()
    check_ports()
    generate_stubs(proto, folder)
    broker = start(program, folder)
    try:
        received = run_all(folder)
        broker.terminate()
        if broker.wait(timeout=30) != 0:
            sys.exit(f"the broker ended with {broker.returncode}")
        broker = start(program, folder)
        run("consume_grpc.py", folder, received)
    finally:
        broker.kill()
        broker.wait()
    if not (folder / "broker_data").is_dir():
        sys.exit("the messages are not kept in broker_data")
    print("all passed")


main()
