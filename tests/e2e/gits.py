"""A git repository, served by git's own server over http on the loopback."""
import http.server
import os
import subprocess
import threading

ENVIRONMENT = {'PATH': os.environ['PATH'], 'HOME': '/nonexistent', 'GIT_CONFIG_NOSYSTEM': '1', 'GIT_AUTHOR_NAME': 'a', 'GIT_AUTHOR_EMAIL': 'a@b',
               'GIT_COMMITTER_NAME': 'a', 'GIT_COMMITTER_EMAIL': 'a@b'}


class Repository:
    def __init__(self, folder, name='repo.git'):
        self.folder, self.path, self.asked = str(folder), os.path.join(str(folder), name), []
        os.makedirs(self.path)
        self.git('init', '-q', '-b', 'main')
        self.login = None  # what Authorization must say
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                outer.asked.append(self.path)
                if outer.login and self.headers.get('Authorization') != outer.login:
                    self.send_response(401)
                    self.send_header('WWW-Authenticate', 'Basic realm="x"')
                    self.send_header('Content-Length', '0')
                    self.end_headers()
                    return
                path, _, query = self.path.partition('?')
                environment = {**ENVIRONMENT, 'GIT_PROJECT_ROOT': outer.folder, 'GIT_HTTP_EXPORT_ALL': '1', 'PATH_INFO': path.replace('.git/', '.git/.git/', 1),
                               'QUERY_STRING': query, 'REQUEST_METHOD': self.command, 'CONTENT_TYPE': self.headers.get('Content-Type', ''),
                               'HTTP_CONTENT_ENCODING': self.headers.get('Content-Encoding', ''), 'REMOTE_USER': '',
                               'GIT_PROTOCOL': self.headers.get('Git-Protocol', '')}
                body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
                done = subprocess.run(['git', '-c', 'safe.directory=*', 'http-backend'], input=body, capture_output=True, env={**environment, 'GIT_CONFIG_COUNT': '1', 'GIT_CONFIG_KEY_0': 'safe.directory', 'GIT_CONFIG_VALUE_0': '*'})
                head, _, content = done.stdout.partition(b'\r\n\r\n')
                headers = [line.split(': ', 1) for line in head.decode().split('\r\n') if line]
                status = next((value for key, value in headers if key == 'Status'), '200 OK')
                self.send_response(int(status.split()[0]))
                for key, value in headers:
                    if key != 'Status':
                        self.send_header(key, value)
                self.send_header('Content-Length', str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass
        self.http = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = 'http://127.0.0.1:%d/%s' % (self.http.server_address[1], name)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def git(self, *words):
        return subprocess.run(['git', *words], cwd=self.path, env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message='change', **files):
        """Files by their paths, '/' written as '__'."""
        for path, text in files.items():
            path = os.path.join(self.path, path.replace('__', '/'))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, 'w') as out:
                out.write(text)
        self.git('add', '-A')
        self.git('commit', '-q', '-m', message)
        return self.git('rev-parse', 'HEAD')

    def close(self):
        self.http.shutdown()
        self.http.server_close()
