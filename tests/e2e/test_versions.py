"""Versions of the API: who is served, and what old and new ones have in their documents."""
import os
import re
import subprocess

import pytest

import images

DATA = os.path.join(os.path.dirname(__file__), 'data')
LOWEST, HIGHEST = 21, 51


def top_of(api):
    return int(api.get('/version').json['ApiVersion'].split('.')[1])


@pytest.mark.berth
def test_the_range(api):
    told = api.get('/version').json
    assert (told['MinAPIVersion'], told['ApiVersion']) == (f'1.{LOWEST}', f'1.{HIGHEST}')
    for minor in range(LOWEST, HIGHEST + 1):
        assert api.get(f'/v1.{minor}/containers/json').status == 200, minor
    assert api.get('/_ping').headers['Api-Version'] == f'1.{HIGHEST}'


@pytest.mark.berth
def test_below_and_above(api):
    old = api.get('/v1.20/info')
    assert (old.status, old.headers['Content-Type']) == (400, 'text/plain; charset=utf-8')
    assert old.body == b'client version 1.20 is too old. Minimum supported API version is 1.21, please upgrade your client to a newer version'
    new = api.get('/v1.52/info')
    assert (new.status, new.message) == (400, 'client version 1.52 is too new. Maximum supported API version is 1.51')


@pytest.mark.differs('serves up to 1.41')
@pytest.mark.parametrize('wanted', ['1.24', '1.41', '1.44', '1.48', '1.51'])
def test_the_client_in_that_version(docker, name, wanted):
    def run(*arguments):
        return subprocess.run(docker.command(*arguments), env={**docker.environment(), 'DOCKER_API_VERSION': wanted}, capture_output=True, text=True)
    assert run('version', '--format', '{{.Client.APIVersion}}').stdout == wanted + '\n'
    done = run('run', '--name', name, 'bb', 'sh', '-c', 'echo out; exit 3')
    assert (done.returncode, done.stdout) == (3, 'out\n'), done
    for words in (['ps', '-a'], ['images'], ['info'], ['system', 'df'] if wanted != '1.24' else ['version'], ['inspect', name], ['inspect', 'bb'],
                  ['network', 'ls'], ['volume', 'ls'], ['logs', name]):
        done = run(*words)
        assert done.returncode == 0 and not re.search('rror', done.stderr), (words, done)


@pytest.mark.differs_today('answers text for versions to 1.23, or has none of them')
def test_errors_of_the_oldest_are_text(api):
    answer = api.get('/v1.23/containers/nosuch/json')
    assert (answer.status, answer.headers['Content-Type'], answer.body) == (404, 'text/plain; charset=utf-8', b'No such container: nosuch\n')
    assert api.get('/v1.24/containers/nosuch/json').json == {'message': 'No such container: nosuch'}


# ---- documents ------------------------------------------------------------------------------------------------------

# Of each document: a key, the first version that has it and the last.
KEYS = {
    '/info': [('ExecutionDriver', 21, 24), ('KernelMemory', 21, 41), ('KernelMemoryTCP', 21, 41), ('BridgeNfIptables', 21, 49),
              ('FirewallBackend', 49, 99), ('ContainerdCommit.Expected', 21, 48), ('RuncCommit.Expected', 21, 48), ('RuncCommit.ID', 21, 99),
              ('RegistryConfig.AllowNondistributableArtifactsCIDRs', 21, 46), ('RegistryConfig.IndexConfigs', 21, 99)],
    '/images/bb/json': [('VirtualSize', 21, 43), ('Container', 21, 44), ('ContainerConfig', 21, 44), ('ContainerConfig.Tty', 21, 44),
                        ('Config.Hostname', 21, 49), ('Config.AttachStdin', 21, 49), ('Config.Cmd', 21, 99), ('Parent', 21, 51),
                        ('DockerVersion', 21, 51), ('Size', 21, 99)],
}


def has(document, path):
    for key in path.split('.'):
        if key not in document:
            return False
        document = document[key]
    return True


@pytest.mark.differs_today('has them to 1.41, or leaves them out where they say nothing')
@pytest.mark.parametrize('path', KEYS)
def test_keys_come_and_go(api, path):
    lowest = int(api.get('/version').json['MinAPIVersion'].split('.')[1])
    for minor in range(lowest, HIGHEST + 1):
        document = api.get(f'/v1.{minor}{path}').json
        for key, first, last in KEYS[path]:
            assert has(document, key) == (first <= minor <= last), (minor, key)


def test_security_options_were_names(api):
    if top_of(api) > 48:
        assert 'seccomp' in api.get('/v1.24/info').json['SecurityOptions']
    assert any(option.startswith('name=seccomp,') for option in api.get('/v1.25/info').json['SecurityOptions'])


@pytest.mark.differs('ends at 1.41')
def test_rows_of_images(api, docker, name):
    untagged = docker.ok('import', '-', input=images.tar([]), seconds=30)
    docker.ok('create', '--name', name, 'bb')
    try:
        for minor in (42, 43, 44, 50, 51):
            rows = {row['Id']: row for row in api.get(f'/v1.{minor}/images/json').json}
            assert rows[untagged]['RepoTags'] == (['<none>:<none>'] if minor < 43 else [])
            [named] = [row for row in rows.values() if 'bb:latest' in row['RepoTags']]
            assert ('VirtualSize' in named) == (minor < 44)
            assert named['Containers'] == (-1 if minor < 51 else 1) and rows[untagged]['Containers'] == (-1 if minor < 51 else 0)
    finally:
        docker.ok('rmi', untagged)


@pytest.mark.differs('takes the name for nothing')
def test_a_name_beside_the_filters_before_1_41(api, docker):
    docker.ok('tag', 'bb', 'other:1')
    try:
        for minor, shown in ((24, [['other:1']]), (40, [['other:1']]), (41, None)):
            tags = [row['RepoTags'] for row in api.get(f'/v1.{minor}/images/json?filter=other').json if 'other:1' in row['RepoTags']]
            assert tags == shown if shown else len(tags[0]) > 1
    finally:
        docker.ok('rmi', 'other:1')


def test_auto_remove_is_the_clients_before_1_25(api, docker, name):
    api.post(f'/v1.24/containers/create?name={name}', {'Image': 'bb', 'Cmd': ['true'], 'HostConfig': {'AutoRemove': True}})
    docker.ok('start', name)
    assert docker.ok('wait', name) == '0'
    assert docker.inspect(name)['HostConfig']['AutoRemove'] is False


@pytest.mark.differs('does not know 1.42')
def test_fields_that_an_old_client_can_not_mean(api, docker):
    body = {'Image': 'bb', 'HostConfig': {'ConsoleSize': [3, 4], 'annotations': {'a': 'b'}}}
    for minor in (41, 42, 43):
        answer = api.post(f'/v1.{minor}/containers/create', body)
        assert answer.status == 201, answer
        shown = docker.inspect(answer.json['Id'])['HostConfig']
        assert shown['ConsoleSize'] == ([0, 0] if minor < 42 else [3, 4])
        assert shown.get('Annotations') == (None if minor < 43 else {'a': 'b'})


# ---- endpoints ------------------------------------------------------------------------------------------------------

def endpoints():
    for line in open(os.path.join(DATA, 'endpoints.txt')):
        if not line.startswith('#'):
            method, path, since = line.split()
            yield method, re.sub(r'{\w+}', 'nosuch', path), int(since.split('.')[1])


SLOW = ('/events', '/session')


def test_every_endpoint_of_the_published_api(api):
    """Each is known from its first version on; what it says of a thing that is not there is its own."""
    top = top_of(api)
    missing = []
    for method, path, since in endpoints():
        if since > top or path in SLOW:
            continue
        for minor in {since, top}:
            answer = api.request(method, f'/v1.{minor}{path}?until=1&limit=1')
            if b'page not found' in answer.body or answer.status == 405:
                missing.append((method, path, minor))
    assert missing == []


SWARM = 'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'


@pytest.mark.parametrize('method, path, body', [
    ('GET', '/swarm', None), ('GET', '/nodes', None), ('GET', '/services', None), ('GET', '/tasks', None), ('GET', '/secrets', None),
    ('GET', '/configs', None), ('GET', '/nodes/x', None), ('GET', '/services/x', None), ('DELETE', '/secrets/x', None),
    ('GET', '/swarm/unlockkey', None)])
def test_no_swarm(api, method, path, body):
    answer = api.request(method, path, body)
    assert (answer.status, answer.message) == (503, SWARM)


def test_leaving_no_swarm(api):
    answer = api.post('/swarm/leave')
    assert (answer.status, answer.message) == (503, 'This node is not part of a swarm')


@pytest.mark.berth
def test_no_swarm_is_made(docker):
    done = docker('swarm', 'init')
    assert done.code == 1 and 'swarms are not supported' in done.err


@pytest.mark.new_client('its own words')
def test_no_plugins(docker):
    assert docker.ok('plugin', 'ls', '-q') == ''
    for words in (['enable', 'nosuch'], ['rm', 'nosuch'], ['inspect', 'nosuch'], ['set', 'nosuch', 'a=b']):
        done = docker('plugin', *words)
        assert done.code == 1 and 'plugin "nosuch' in done.err and 'not found' in done.err, done


@pytest.mark.berth
def test_options_of_any_path(api):
    answer = api.request('OPTIONS', '/containers/json')
    assert (answer.status, answer.body) == (200, b'')
