"""On PYTHONPATH, refuses whatever a Python program asks of another machine, and notes it in the file TEST_ASKED.

With TEST_AWAKE nothing is waited for. A warning that comes from ser_nb is an error.
"""
import os
import sys
import time
import warnings

LOOK_UPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}
ADDRESSED = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}
HERE = {"127.0.0.1", "::1", "localhost"}

log = os.open(os.environ["TEST_ASKED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def refuse(event, args):
    address = args[0] if event in LOOK_UPS else args[1] if event in ADDRESSED else None
    host = address[0] if isinstance(address, tuple) else address if event in LOOK_UPS else None
    if host is not None and host not in HERE:
        os.write(log, f"{event} {host}\n".encode())
        raise OSError(f"{host}: not on this machine")


sys.addaudithook(refuse)
warnings.filterwarnings("error", module="ser_nb")
if "TEST_AWAKE" in os.environ:
    time.sleep = lambda seconds: None
