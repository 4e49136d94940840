"""A daemon that says what a test makes up: one thread a connection, each answer a piece of Python. It is for what no real daemon does."""
import contextlib
import json
import re
import socket
import ssl
import threading


class Request:
    def __init__(self, sock, head):
        self.sock = sock
        self.method, self.path = head.split(b'\r\n')[0].decode().split(' ')[:2]
        self.path = re.sub(r'^/v1\.\d+', '', self.path)
        match = re.search(rb'\r\ncontent-length: (\d+)', head, re.I)
        self.size = int(match.group(1)) if match else 0
        self.over = False  # the connection's end comes with this answer's

    def say(self, data):
        self.sock.sendall(data)

    def answer(self, body, status='200 OK', headers=''):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.say(f'HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n'.encode() + body)

    def stream(self):
        """Answers with a body that ends with the connection."""
        self.over = True
        self.say(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n')

    def hijack(self):
        self.over = True
        self.say(b'HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n')

    def read(self, end):
        """What the client sends, up to `end` or its last byte."""
        data = b''
        while not data.endswith(end):
            piece = self.sock.recv(65536)
            if not piece:
                break
            data += piece
        return data


class MadeUpDaemon:
    """`answers`: pairs of "METHOD path pattern" and what is done with the request: called with it, or answered as JSON or bytes."""

    def __init__(self, socket_path=None, certificates=None):
        self.answers = []
        self.seen = []  # "METHOD path" of each request
        self.bodies = []
        self.tls = None
        self.listener = socket.socket(socket.AF_UNIX if socket_path else socket.AF_INET)
        self.listener.bind(socket_path or ('127.0.0.1', 0))
        self.host = f'unix://{socket_path}' if socket_path else f'tcp://127.0.0.1:{self.listener.getsockname()[1]}'
        if certificates:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(*certificates)
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def on(self, pattern, answer):
        self.answers.insert(0, (pattern, answer))
        return self

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        with contextlib.suppress(OSError, ValueError), contextlib.closing(self.tls.wrap_socket(sock, True) if self.tls else sock) as at:
            while self.serve_one(at):
                pass

    def serve_one(self, sock):
        head = b''
        while not head.endswith(b'\r\n\r\n'):
            piece = sock.recv(1)
            if not piece:
                return False
            head += piece
        request = Request(sock, head)
        body = b''
        while len(body) < request.size:
            body += sock.recv(request.size - len(body))
        request.body = body
        self.bodies.append(body)
        self.seen.append(f'{request.method} {request.path}')
        for pattern, answer in self.answers:
            if re.match(pattern, f'{request.method} {request.path}'):
                if callable(answer):
                    answer(request)
                else:
                    request.answer(answer)
                return not request.over
        if request.path == '/_ping':
            request.say(b'HTTP/1.1 200 OK\r\nApi-Version: 1.50\r\nContent-Length: 0\r\n\r\n')
            return True
        request.answer({'message': 'not made up'}, '404 Not Found')
        return True
