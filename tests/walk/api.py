"""api METHOD PATH [BODY]: one request on $SOCKET; prints the body of the answer and its status."""
import http.client
import os
import socket
import sys


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(os.environ['SOCKET'])


def main():
    connection = Connection('localhost')
    body = sys.argv[3].encode() if len(sys.argv) > 3 else None
    try:
        ask(connection, body)
    except (OSError, http.client.HTTPException) as error:
        print(type(error).__name__)


def ask(connection, body):
    connection.request(sys.argv[1], sys.argv[2], body, {'Content-Type': 'application/json'} if body is not None else {})
    answer = connection.getresponse()
    print(answer.read().decode(errors='replace').strip())
    print(answer.status)


main()
