import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from lcc_tf.errors import InputError
from lcc_tf.training.cluster import Cluster
from lcc_tf.training.rendezvous import wait_for_all
from tests.training.ports import free_addresses


def outcomes(clusters, limit=10):
    """Starts one worker per cluster, and returns "started" or the error message of each worker."""

    def start(cluster):
        try:
            wait_for_all(cluster, limit)
        except InputError as error:
            return str(error)
        return "started"

    with ThreadPoolExecutor(len(clusters)) as pool:
        return list(pool.map(start, clusters))


def test_workers_start_together():
    workers = free_addresses(3)
    assert outcomes([Cluster(workers, index) for index in (2, 0, 1)]) == ["started"] * 3


def test_missing_worker_raises():
    workers = free_addresses(3)
    chief, other = outcomes([Cluster(workers, 0), Cluster(workers, 1)], limit=3)
    assert f"have not started: 2 ({workers[2]})" in chief
    assert chief == other


def test_second_process_with_the_same_port_raises(monkeypatch):
    monkeypatch.setattr("lcc_tf.training.rendezvous.ANSWER_LIMIT", 0)
    workers = free_addresses(3)  # the third worker is missing, so that the others keep their ports
    for index in (0, 1):
        ends = outcomes([Cluster(workers, index)] * 2, limit=1)
        assert sum(f"Worker {index} cannot use its port" in end for end in ends) == 1


def connect(address):
    """Connects to a worker, which can still be starting."""
    host, port = address.split(":")
    for _ in range(100):
        try:
            return socket.create_connection((host, int(port)), timeout=10)
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise AssertionError(f"{address} does not listen")


def answer(address, report):
    """Sends the report of a process on another machine, and returns the answer of the chief."""
    with connect(address) as connection:
        connection.sendall(report.encode() + b"\n")
        return connection.makefile().readline()


def test_chief_refuses_other_connections_and_still_starts():
    workers = free_addresses(3)
    with ThreadPoolExecutor(3) as pool:
        chief, first = (pool.submit(outcomes, [Cluster(workers, i)]) for i in (0, 1))
        report = json.dumps({"lcc_tf worker": 2, "workers": ["a:1", "b:1"]})
        assert "must have the same `workers`. Received: a:1,b:1 instead of" in answer(
            workers[0], report
        )
        assert answer(workers[0], "GET / HTTP/1.1") == ""  # another program
        connect(workers[0]).close()
        second = pool.submit(outcomes, [Cluster(workers, 2)])
        assert [future.result() for future in (chief, first, second)] == [["started"]] * 3


def test_second_process_with_the_same_index_raises():
    workers = free_addresses(3)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(outcomes, [Cluster(workers, i)], 3) for i in (0, 1)]
        report = json.dumps({"lcc_tf worker": 1, "workers": workers})
        with connect(workers[0]) as connection:  # the first or the second worker with this index
            connection.sendall(report.encode() + b"\n")
            ends = [future.result()[0] for future in waiting]
            text = ends[1] + connection.makefile().readline()
    assert "Another process is already worker 1" in text
