"""Free ports for processes of tests that train together."""

import socket


def free_addresses(count):
    """Returns addresses of this machine whose ports are free."""
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in with_ports]
    for opened in with_ports:
        opened.close()
    return tuple(f"127.0.0.1:{port}" for port in ports)
