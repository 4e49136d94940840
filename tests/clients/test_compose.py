"""One project of several services by docker-compose 1.29 (Debian 12's) and by `docker compose` 2 (sid's plug-in), unmodified."""
import json
import os
import subprocess
import urllib.request

import pytest

import engines

PROJECT = """
services:
  web:
    image: bb:latest
    command: httpd -f -h /var/www -p 80
    ports: ["127.0.0.1::80"]
    volumes: ["content:/var/www/data", "./page:/var/www/page:ro"]
    networks: {front: {aliases: [site]}}
    healthcheck: {test: ["CMD", "wget", "-qO-", "http://127.0.0.1/"], interval: 1s, timeout: 5s, retries: 10}
    restart: unless-stopped
  store:
    image: bb:latest
    command: sh -c 'trap "exit 0" TERM; while :; do sleep 0.1; done'
    environment: {COLOR: green}
    networks: [front, back]
    mem_limit: 64m
    sysctls: {net.core.somaxconn: "1024"}
    tmpfs: [/scratch]
    volumes: ["content:/content"]
  reader:
    image: bb:latest
    command: sh -c 'wget -qO- http://site/page/index.html; wget -qO- http://web/; echo done; sleep 600'
    stop_grace_period: 0s
    depends_on: {web: {condition: service_healthy}, store: {condition: service_started}}
    networks: [front]
    labels: {role: reader}
    logging: {driver: json-file, options: {max-size: 1m, max-file: "2"}}
volumes: {content: {labels: {kind: content}}}
networks:
  front: {}
  back: {internal: true, ipam: {config: [{subnet: 172.31.250.0/24}]}}
"""


class Compose:
    def __init__(self, command, folder, environment):
        self.command, self.folder, self.environment = command, folder, environment

    def __call__(self, *words, seconds=90):
        return subprocess.run(['timeout', '-s', 'KILL', str(seconds), *self.command, '-p', 'shop', *words], cwd=self.folder, env=self.environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def ok(self, *words):
        done = self(*words)
        assert done.returncode == 0, f'{words}: {done.stdout}{done.stderr}'
        return done.stdout


@pytest.fixture(params=['docker-compose', 'docker compose'])
def compose(request, folder, environment, image):
    with open(os.path.join(folder, 'docker-compose.yml'), 'w') as file:
        file.write(PROJECT)
    os.mkdir(os.path.join(folder, 'page'))
    with open(os.path.join(folder, 'page/index.html'), 'w') as file:
        file.write('a page from the host\n')
    # The old one reads of an image what versions after 1.44 don't tell any more, Docker's neither.
    compose = Compose([*request.param.split()], folder, {**environment, 'COMPOSE_API_VERSION': '1.44'})
    yield compose
    compose.ok('down', '-v', '--remove-orphans', '-t', '1')


def test_a_project_goes_up_and_down(compose, engine):
    compose.ok('config', '-q')
    compose.ok('up', '-d')
    engines.wait_until(lambda: 'done' in compose.ok('logs', '--no-color', 'reader'), 30, 'the reader has read')
    log = compose.ok('logs', '--no-color', 'reader')
    assert 'a page from the host' in log and 'hello from the image' in log
    assert len(engine.get('/containers/json')) == 3
    port = compose.ok('port', 'web', '80').strip()
    assert urllib.request.urlopen(f'http://{port}/', timeout=10).read() == b'hello from the image\n'
    assert compose.ok('exec', '-T', 'store', 'sh', '-c', 'echo $COLOR; cat /proc/sys/net/core/somaxconn') == 'green\n1024\n'
    assert compose.ok('run', '--rm', '-T', '--no-deps', 'store', 'echo', 'one-off').strip() == 'one-off'
    assert 'httpd' in compose.ok('top', 'web')
    compose.ok('pause', 'store')
    compose.ok('unpause', 'store')
    compose.ok('restart', '-t', '1', 'store')
    compose.ok('stop', '-t', '1', 'web')
    compose.ok('start', 'web')
    compose.ok('up', '-d', '--scale', 'store=3')
    running = engine.get('/containers/json?filters=' + json.dumps({'label': ['com.docker.compose.service=store']}).replace(' ', ''))
    assert len(running) == 3
    compose.ok('kill', 'reader')
    compose.ok('rm', '-f', 'reader')


def test_what_changed_is_made_anew(compose, engine):
    compose.ok('up', '-d', 'store')
    before = {found['Names'][0]: found['Id'] for found in engine.get('/containers/json')}
    compose.ok('up', '-d', 'store')
    assert {found['Names'][0]: found['Id'] for found in engine.get('/containers/json')} == before
    with open(os.path.join(compose.folder, 'docker-compose.yml'), 'w') as file:
        file.write(PROJECT.replace('green', 'blue'))
    compose.ok('up', '-d', '-t', '1', 'store')
    after = {found['Names'][0]: found['Id'] for found in engine.get('/containers/json')}
    assert before.keys() == after.keys() and before != after
    assert compose.ok('exec', '-T', 'store', 'sh', '-c', 'echo $COLOR') == 'blue\n'
