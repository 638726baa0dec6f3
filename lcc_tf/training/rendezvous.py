"""Start of a training on several machines: each worker waits until all workers have started.

`lcc_tf.training.cluster` explains workers and the chief. The chief accepts one connection from each
other worker. When all workers are connected, the chief answers all of them.
"""

import contextlib
import json
import select
import socket
import sys
import time
from collections.abc import Collection

from lcc_tf.errors import InputError
from lcc_tf.training.cluster import Cluster

# Seconds that a worker waits until all other workers have started. Job queues and Kubernetes often
# start the workers one after the other.
START_LIMIT = 600
# The other workers wait this number of seconds longer than the chief, to receive its answer.
ANSWER_LIMIT = 10
# Answers of the chief. `_GO`: all workers have started. `_FAULT`: beginning of an error message.
_GO, _FAULT = b"lcc_tf: start\n", b"lcc_tf error: "


def wait_for_all(cluster: Cluster, limit: float = START_LIMIT) -> None:
    """Waits until all workers have started.

    TensorFlow also waits for all workers, but a user cannot interrupt this wait. Therefore this
    function waits first, and TensorFlow starts only after all workers have started. During the
    wait, each worker reserves its port.

    Args:
        cluster: the workers of the training.
        limit: longest time to wait, seconds.

    Raises:
        InputError: one of the following is wrong.

            - Another process uses the port of this worker.
            - Another process has the index of this worker.
            - The chief has another list of workers.
            - Workers are missing after `limit` seconds.
    """
    deadline = time.monotonic() + limit
    with _own_port(cluster) as listener:
        if cluster.is_chief:
            _gather_workers(cluster, listener, deadline)
        else:
            _report_to_chief(cluster, deadline + ANSWER_LIMIT)


def _split(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


def _own_port(cluster: Cluster) -> socket.socket:
    """Returns a socket that listens at the port of this worker."""
    _, port = _split(cluster.workers[cluster.index])
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=dual)
    except OSError as error:
        raise InputError(
            f"Worker {cluster.index} cannot use its port {port}: {error.strerror}. Another process "
            f"is worker {cluster.index}, or another program uses the port. Start each worker once, "
            "with its own index, or use another port in `workers`."
        ) from error


def _gather_workers(cluster: Cluster, listener: socket.socket, deadline: float) -> None:
    """Waits as the chief until each other worker has reported, then lets all workers start."""
    connections: dict[int, socket.socket] = {}
    listener.settimeout(1)
    print(f"Waiting for the workers {', '.join(cluster.workers[1:])}.", file=sys.stderr)
    with contextlib.ExitStack() as opened:
        while True:
            # Remove stopped workers, because a stopped worker can start and connect again.
            connections = {i: other for i, other in connections.items() if not _is_closed(other)}
            if len(connections) == cluster.size - 1:
                break
            if time.monotonic() > deadline:
                error = _missing_workers(cluster, connections)
                for connection in connections.values():
                    _send(connection, _FAULT + f"{error}\n".encode())
                raise error
            try:
                connection = opened.enter_context(listener.accept()[0])
            except TimeoutError:
                continue
            index, fault = _read_report(connection, cluster)
            if index in connections:
                fault = (
                    f"Another process is already worker {index}. Received: worker_index={index}. "
                    "Start one process per `worker_index`."
                )
            if index is not None and not fault:
                connections[index] = connection
                continue
            # Other programs, and workers whose report was too slow, receive no answer.
            if fault:
                _send(connection, _FAULT + f"{fault}\n".encode())
            connection.close()
        for connection in connections.values():
            _send(connection, _GO)


def _send(connection: socket.socket, answer: bytes) -> None:
    """Sends an answer to a worker. The worker may have stopped."""
    with contextlib.suppress(OSError):
        connection.sendall(answer)


def _missing_workers(cluster: Cluster, present: Collection[int]) -> InputError:
    missing = [
        f"{index} ({worker})"
        for index, worker in enumerate(cluster.workers)
        if index and index not in present
    ]
    return InputError(
        f"These workers have not started: {', '.join(missing)}. Start all workers with the same "
        f"`workers` within {START_LIMIT // 60} minutes."
    )


def _is_closed(connection: socket.socket) -> bool:
    """Returns True if the other side has closed a connection.

    The other side sends only its report, which was already read. If the connection is readable
    after the report, the connection is therefore closed.
    """
    return bool(select.select([connection], [], [], 0)[0])


def _read_report(connection: socket.socket, cluster: Cluster) -> tuple[int | None, str]:
    """Returns the index of the worker that has connected, and an error message or an empty text.

    Connections of other programs, such as port scanners, have no index and no message.
    """
    connection.settimeout(5)
    try:
        report = json.loads(connection.makefile("rb").readline(1 << 20))
        index, workers = int(report["lcc_tf worker"]), report["workers"]
    except (OSError, ValueError, KeyError, TypeError):
        return None, ""
    if workers != list(cluster.workers):
        return index, (
            f"All machines must have the same `workers`. Received: {','.join(map(str, workers))} "
            f"instead of the chief's list {','.join(cluster.workers)}."
        )
    return index, ""


def _report_to_chief(cluster: Cluster, deadline: float) -> None:
    """Reports to the chief, and waits for the answer that all workers have started."""
    chief = cluster.workers[0]
    report = json.dumps({"lcc_tf worker": cluster.index, "workers": cluster.workers}) + "\n"
    print(
        f"Worker {cluster.index} of {cluster.size} waits for the chief at {chief}, which prints "
        "the progress.",
        file=sys.stderr,
    )
    while time.monotonic() < deadline:
        answer = b""
        try:
            with socket.create_connection(_split(chief), timeout=5) as connection:
                connection.sendall(report.encode())
                connection.settimeout(max(1, deadline - time.monotonic()))
                answer = connection.makefile("rb").readline(1 << 20)
        except OSError:
            pass  # the chief has not started yet, or has stopped
        if answer == _GO:
            return
        if answer.startswith(_FAULT):
            raise InputError(answer.removeprefix(_FAULT).decode().strip())
        time.sleep(1)
    raise InputError(
        f"The chief at {chief} did not report in time that all workers have started. Verify that "
        "the chief runs, that this machine can reach the address of the chief, and that no earlier "
        "process uses the port of the chief."
    )
